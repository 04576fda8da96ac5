package purse

import "fmt"

// Purse is one of a card's two accounts: the passbook ED (电子存折) or the purse EP (电子钱包). Its value is the P2 of
// INITIALIZE and of GET BALANCE (EPURSE.md §5.1). The zero value is invalid.
type Purse uint8

// The purses.
const (
	ED Purse = 1
	EP Purse = 2
)

// ParsePurse reads the names "ED" and "EP".
func ParsePurse(name string) (Purse, error) {
	switch name {
	case "ED":
		return ED, nil
	case "EP":
		return EP, nil
	}
	return 0, fieldErrorf("purse", `%q, expected "ED" or "EP"`, name)
}

// Valid reports whether p is ED or EP.
func (p Purse) Valid() bool { return p == ED || p == EP }

// String is "ED" or "EP".
func (p Purse) String() string {
	switch p {
	case ED:
		return "ED"
	case EP:
		return "EP"
	}
	return fmt.Sprintf("invalid purse %d", uint8(p))
}

// check refuses the zero purse where a transaction is made.
func (p Purse) check() error {
	if !p.Valid() {
		return fieldErrorf("purse", "%v", p)
	}
	return nil
}

// TTI is a transaction type (EPURSE.md §5). The zero value is invalid.
type TTI uint8

// The transaction types.
const (
	TTILoadED         TTI = 0x01 // ED load 圈存
	TTILoadEP         TTI = 0x02 // EP load 圈存
	TTIUnload         TTI = 0x03 // unload 圈提, of the purse that the profile names
	TTICashWithdrawal TTI = 0x04 // ED cash withdrawal 取现
	TTIPurchaseED     TTI = 0x05 // ED purchase 消费
	TTIPurchaseEP     TTI = 0x06 // EP purchase 消费
	TTIOverdraft      TTI = 0x07 // ED overdraft limit 修改透支限额
	TTICompound       TTI = 0x09 // compound purchase 复合消费, of EP
)

// ParseTTI reads the two hex digits of the field type; an unknown type is refused.
func ParseTTI(text string) (TTI, error) {
	b, err := ParseHex("type", text, 1)
	if err != nil {
		return 0, err
	}
	if t := TTI(b[0]); t.Valid() {
		return t, nil
	}
	return 0, fieldErrorf("type", "unknown transaction type %02X", b[0])
}

// Valid reports whether t is one of the types.
func (t TTI) Valid() bool { return t.name() != "" }

// String is the code and its name, such as "02 EP load".
func (t TTI) String() string {
	if name := t.name(); name != "" {
		return fmt.Sprintf("%02X %s", uint8(t), name)
	}
	return fmt.Sprintf("invalid transaction type %02X", uint8(t))
}

func (t TTI) name() string {
	switch t {
	case TTILoadED:
		return "ED load"
	case TTILoadEP:
		return "EP load"
	case TTIUnload:
		return "unload"
	case TTICashWithdrawal:
		return "ED cash withdrawal"
	case TTIPurchaseED:
		return "ED purchase"
	case TTIPurchaseEP:
		return "EP purchase"
	case TTIOverdraft:
		return "ED overdraft limit"
	case TTICompound:
		return "compound purchase"
	}
	return ""
}

// Offline reports whether t is a purchase type: purchase, cash withdrawal or compound (EPURSE.md §5.2), which count on
// OFFSN and whose MAC1 the terminal makes.
func (t TTI) Offline() bool {
	return t == TTICashWithdrawal || t == TTIPurchaseED || t == TTIPurchaseEP || t == TTICompound
}

// Purse is the purse that t belongs to; ok is false for unload, whose type does not tell, and for an invalid type.
func (t TTI) Purse() (p Purse, ok bool) {
	switch t {
	case TTILoadED, TTICashWithdrawal, TTIPurchaseED, TTIOverdraft:
		return ED, true
	case TTILoadEP, TTIPurchaseEP, TTICompound:
		return EP, true
	}
	return 0, false
}

// LoadTTI is the transaction type of a load of p, 0 for an invalid purse.
func (p Purse) LoadTTI() TTI {
	switch p {
	case ED:
		return TTILoadED
	case EP:
		return TTILoadEP
	}
	return 0
}

// PurchaseTTI is the transaction type of a plain purchase from p, 0 for an invalid purse.
func (p Purse) PurchaseTTI() TTI {
	switch p {
	case ED:
		return TTIPurchaseED
	case EP:
		return TTIPurchaseEP
	}
	return 0
}
