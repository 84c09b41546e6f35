package pcsclite

// Return values, as the PC/SC API has them.
const (
	Success            uint32 = 0
	Cancelled          uint32 = 0x80100002
	InvalidHandle      uint32 = 0x80100003
	InvalidParameter   uint32 = 0x80100004
	NoMemory           uint32 = 0x80100006
	InsufficientBuffer uint32 = 0x80100008
	UnknownReader      uint32 = 0x80100009
	SharingViolation   uint32 = 0x8010000B
	NoSmartcard        uint32 = 0x8010000C
	ProtoMismatch      uint32 = 0x8010000F
	InvalidValue       uint32 = 0x80100011
	NotTransacted      uint32 = 0x80100016
	ServiceStopped     uint32 = 0x8010001E
	Unsupported        uint32 = 0x8010001F
	Unresponsive       uint32 = 0x80100066
	Unpowered          uint32 = 0x80100067
	ResetCard          uint32 = 0x80100068
	RemovedCard        uint32 = 0x80100069
)

// Share modes.
const (
	Exclusive = 1
	Shared    = 2
	Direct    = 3
)

// Protocols. anyOld is what old programs say for T=0 or T=1.
const (
	T0     = 1
	T1     = 2
	Raw    = 4
	anyOld = 0x1000
)

// Dispositions.
const (
	Leave   = 0
	Reset   = 1
	Unpower = 2
	Eject   = 3
)

// States of a card in a reader.
const (
	StateAbsent     = 0x02
	StatePresent    = 0x04
	StateSwallowed  = 0x08
	StatePowered    = 0x10
	StateNegotiable = 0x20
)

// Attributes that are known.
const (
	AttribVendorName      = 0x00010100
	AttribIFDType         = 0x00010101
	AttribIFDVersion      = 0x00010102
	AttribProtocol        = 0x00080201
	AttribPresence        = 0x00090300
	AttribInterfaceStatus = 0x00090301
	AttribATR             = 0x00090303
	AttribMaxInput        = 0x0007A007
	AttribFriendlyName    = 0x7FFF0003
	AttribSystemName      = 0x7FFF0004
)

// ControlFeatures asks a driver which features it has.
const ControlFeatures = 0x42000000 + 3400
