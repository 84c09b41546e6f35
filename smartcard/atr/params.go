package atr

import (
	"fmt"
	"time"
)

// Reserved marks entries of the tables for which ISO 7816-3 has no value.
const Reserved = 0

// fi and fmax are ISO 7816-3 table 7: the clock rate conversion integer and
// the highest clock in kHz, by the high half of TA1.
var (
	fi   = [16]int{372, 372, 558, 744, 1116, 1488, 1860, Reserved, Reserved, 512, 768, 1024, 1536, 2048, Reserved, Reserved}
	fmax = [16]int{4000, 5000, 6000, 8000, 12000, 16000, 20000, Reserved, Reserved, 5000, 7500, 10000, 15000, 20000, Reserved, Reserved}
	di   = [16]int{Reserved, 1, 2, 4, 8, 16, 32, 64, 12, 20, Reserved, Reserved, Reserved, Reserved, Reserved, Reserved}
)

// Speed is what TA1 says, or the defaults.
type Speed struct {
	F, D     int // clock cycles of an elementary time unit are F/D; Reserved where the byte has no meaning
	MaxClock int // kHz
}

// Speed reads TA1.
func (a ATR) Speed() Speed {
	ta := byte(0x11)
	if l := a.Levels[0]; l.Has&HasTA != 0 {
		ta = l.TA
	}
	return Speed{fi[ta>>4], di[ta&15], fmax[ta>>4]}
}

// Etu is the elementary time unit at a clock in Hz, at F and D, or at the
// defaults where they are reserved.
func (s Speed) Etu(clock int) time.Duration {
	f, d := s.F, s.D
	if f == Reserved || d == Reserved {
		f, d = 372, 1
	}
	return time.Duration(int64(time.Second) * int64(f) / (int64(d) * int64(max(clock, 1))))
}

// ExtraGuard is TC1: N, extra guard time in etu; 255 means the least there is.
func (a ATR) ExtraGuard() byte {
	if l := a.Levels[0]; l.Has&HasTC != 0 {
		return l.TC
	}
	return 0
}

// Specific reads TA2: the card speaks only that protocol. With implicit, the
// speed is not that of TA1 but agreed beforehand.
func (a ATR) Specific() (protocol int, implicit, ok bool) {
	if len(a.Levels) < 2 || a.Levels[1].Has&HasTA == 0 {
		return 0, false, false
	}
	ta := a.Levels[1].TA
	return int(ta & 15), ta&0x10 != 0, true
}

// WI is the waiting time integer of T=0, TC2.
func (a ATR) WI() byte {
	if len(a.Levels) > 1 && a.Levels[1].Has&HasTC != 0 && a.Levels[1].TC != 0 {
		return a.Levels[1].TC
	}
	return 10
}

// BlockParams are the parameters of T=1.
type BlockParams struct {
	IFSC     int  // bytes that the card takes in one block
	BWI, CWI byte // block and character waiting time integers
	CRC      bool // otherwise LRC
}

// T1 reads the first interface bytes for T=1 (ISO 7816-3 section 11.4), or the
// defaults.
func (a ATR) T1() (BlockParams, error) {
	p := BlockParams{IFSC: 32, BWI: 4, CWI: 13}
	for i := 2; i < len(a.Levels); i++ { // TAi for i > 2 follows T in TD(i-1)
		if a.Levels[i-1].Has&HasTD == 0 || a.Levels[i-1].Protocol != 1 {
			continue
		}
		l := a.Levels[i]
		if l.Has&HasTA != 0 {
			if l.TA == 0 || l.TA == 0xff {
				return BlockParams{}, fmt.Errorf("%w: TA%d gives IFSC %02X; 01 to FE", ErrATR, i+1, l.TA)
			}
			p.IFSC = int(l.TA)
		}
		if l.Has&HasTB != 0 {
			p.BWI, p.CWI = l.TB>>4, l.TB&15
			if p.BWI > 9 {
				return BlockParams{}, fmt.Errorf("%w: TB%d gives BWI %d; 0 to 9", ErrATR, i+1, p.BWI)
			}
		}
		if l.Has&HasTC != 0 {
			p.CRC = l.TC&1 != 0
		}
		break
	}
	return p, nil
}

// BlockWait is how long a card may take to begin an answer (BWT): 11 etu and
// 2^BWI * 960 * 372 clock cycles.
func (p BlockParams) BlockWait(s Speed, clock int) time.Duration {
	return 11*s.Etu(clock) + time.Duration(int64(time.Second)*(960*372<<min(p.BWI, 9))/int64(max(clock, 1)))
}

// Global are the bytes after T=15.
type Global struct {
	ClockStop byte // X: 0 not, 1 low, 2 high, 3 either
	Classes   byte // Y: bit 0 = A (5 V), 1 = B (3 V), 2 = C (1.8 V)
	SPU       byte // use of contact C6
	HasSPU    bool
}

// Global reads the first interface bytes after T=15.
func (a ATR) Global() Global {
	g := Global{Classes: 1}
	for i := 1; i+1 < len(a.Levels); i++ {
		if a.Levels[i].Protocol != 15 {
			continue
		}
		l := a.Levels[i+1]
		if l.Has&HasTA != 0 {
			g.ClockStop, g.Classes = l.TA>>6, l.TA&0x3f
		}
		g.SPU, g.HasSPU = l.TB, l.Has&HasTB != 0
		break
	}
	return g
}
