package cosine

const (
	fix0298 = 2446 // 0.298631336, times 1<<fixBits
	fix0390 = 3196
	fix0541 = 4433
	fix0765 = 6270
	fix0899 = 7373
	fix1175 = 9633
	fix1501 = 12299
	fix1847 = 15137
	fix1961 = 16069
	fix2053 = 16819
	fix2562 = 20995
	fix3072 = 25172

	fixBits  = 13
	passBits = 2
)

// Forward transforms samples of -1024..1023, row by row, to values that are
// eight times those of Inverse, column by column. What from holds afterwards is
// not defined.
func Forward(to, from *[64]int32) { forward(to, from) }

// Inverse makes samples of values, both row by row.
func Inverse(c *[64]int32) { inverse(c) }

// Flat is Inverse of a block that has only its first value.
func Flat(c *[64]int32, dc int32) {
	const down, half = fixBits + passBits + 3, 1 << (fixBits + passBits + 2)
	flat(c, (dc<<passBits<<fixBits+half)>>down)
}

func flatPlain(c *[64]int32, v int32) {
	for i := range c {
		c[i] = v
	}
}

func forwardPlain(to, from *[64]int32) {
	for i := range 8 { // columns
		s := (*[57]int32)(from[i : i+57])
		t0, t7 := s[0]+s[56], s[0]-s[56]
		t1, t6 := s[8]+s[48], s[8]-s[48]
		t2, t5 := s[16]+s[40], s[16]-s[40]
		t3, t4 := s[24]+s[32], s[24]-s[32]
		a0, a3, a1, a2 := t0+t3, t0-t3, t1+t2, t1-t2
		s[0], s[32] = (a0+a1)<<passBits, (a0-a1)<<passBits
		const down = fixBits - passBits
		z1 := (a2+a3)*fix0541 + 1<<(down-1)
		s[16], s[48] = (z1+a3*fix0765)>>down, (z1-a2*fix1847)>>down
		o4, o5, o6, o7 := forwardOdd(t4, t5, t6, t7, 1<<(down-1))
		s[56], s[40], s[24], s[8] = o4>>down, o5>>down, o6>>down, o7>>down
	}
	for i := range 8 { // rows
		s, d := (*[8]int32)(from[i*8:]), (*[57]int32)(to[i:i+57])
		t0, t7 := s[0]+s[7], s[0]-s[7]
		t1, t6 := s[1]+s[6], s[1]-s[6]
		t2, t5 := s[2]+s[5], s[2]-s[5]
		t3, t4 := s[3]+s[4], s[3]-s[4]
		a0, a3, a1, a2 := t0+t3, t0-t3, t1+t2, t1-t2
		d[0], d[32] = (a0+a1+1<<(passBits-1))>>passBits, (a0-a1+1<<(passBits-1))>>passBits
		const down = fixBits + passBits
		z1 := (a2+a3)*fix0541 + 1<<(down-1)
		d[16], d[48] = (z1+a3*fix0765)>>down, (z1-a2*fix1847)>>down
		o4, o5, o6, o7 := forwardOdd(t4, t5, t6, t7, 1<<(down-1))
		d[56], d[40], d[24], d[8] = o4>>down, o5>>down, o6>>down, o7>>down
	}
}

func forwardOdd(t4, t5, t6, t7, half int32) (o4, o5, o6, o7 int32) {
	z3, z4 := t4+t6, t5+t7
	z5 := (z3+z4)*fix1175 + half
	z1, z2 := (t4+t7)*-fix0899, (t5+t6)*-fix2562
	z3, z4 = z3*-fix1961+z5, z4*-fix0390+z5
	return t4*fix0298 + z1 + z3, t5*fix2053 + z2 + z4, t6*fix3072 + z2 + z3, t7*fix1501 + z1 + z4
}

func inversePlain(b *[64]int32) {
	for i := range 8 { // columns
		s := (*[57]int32)(b[i : i+57])
		if s[8]|s[16]|s[24]|s[32]|s[40]|s[48]|s[56] == 0 {
			v := s[0] << passBits
			s[0], s[8], s[16], s[24], s[32], s[40], s[48], s[56] = v, v, v, v, v, v, v, v
			continue
		}
		const down, half = fixBits - passBits, 1 << (fixBits - passBits - 1)
		z1 := (s[16] + s[48]) * fix0541
		t2, t3 := z1-s[48]*fix1847, z1+s[16]*fix0765
		t0, t1 := (s[0]+s[32])<<fixBits+half, (s[0]-s[32])<<fixBits+half
		a0, a3, a1, a2 := t0+t3, t0-t3, t1+t2, t1-t2
		o0, o1, o2, o3 := inverseOdd(s[56], s[40], s[24], s[8])
		s[0], s[56] = (a0+o3)>>down, (a0-o3)>>down
		s[8], s[48] = (a1+o2)>>down, (a1-o2)>>down
		s[16], s[40] = (a2+o1)>>down, (a2-o1)>>down
		s[24], s[32] = (a3+o0)>>down, (a3-o0)>>down
	}
	for i := 0; i < 64; i += 8 { // rows
		s := (*[8]int32)(b[i : i+8])
		const down, half = fixBits + passBits + 3, 1 << (fixBits + passBits + 2)
		if s[1]|s[2]|s[3]|s[4]|s[5]|s[6]|s[7] == 0 {
			v := (s[0]<<fixBits + half) >> down
			s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7] = v, v, v, v, v, v, v, v
			continue
		}
		z1 := (s[2] + s[6]) * fix0541
		t2, t3 := z1-s[6]*fix1847, z1+s[2]*fix0765
		t0, t1 := (s[0]+s[4])<<fixBits+half, (s[0]-s[4])<<fixBits+half
		a0, a3, a1, a2 := t0+t3, t0-t3, t1+t2, t1-t2
		o0, o1, o2, o3 := inverseOdd(s[7], s[5], s[3], s[1])
		s[0], s[7] = (a0+o3)>>down, (a0-o3)>>down
		s[1], s[6] = (a1+o2)>>down, (a1-o2)>>down
		s[2], s[5] = (a2+o1)>>down, (a2-o1)>>down
		s[3], s[4] = (a3+o0)>>down, (a3-o0)>>down
	}
}

func inverseOdd(t0, t1, t2, t3 int32) (o0, o1, o2, o3 int32) {
	z3, z4 := t0+t2, t1+t3
	z5 := (z3 + z4) * fix1175
	z1, z2 := (t0+t3)*-fix0899, (t1+t2)*-fix2562
	z3, z4 = z3*-fix1961+z5, z4*-fix0390+z5
	return t0*fix0298 + z1 + z3, t1*fix2053 + z2 + z4, t2*fix3072 + z2 + z3, t3*fix1501 + z1 + z4
}
