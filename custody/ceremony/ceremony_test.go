package ceremony

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/deskey"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// Test components, made for this test alone: their bytes have odd parity.
const (
	first  = "0123 4567 89AB CDEF FEDC BA98 7654 3210"
	second = "EABA 7A07 D343 EF6E CD7F 1092 940B 8991"
	third  = "8080 8080 8080 8080 0101 0101 0101 0101"
)

const changeOfTest = "00112233445566778899aabbccddeeff"

// valueOf is a check value, by the code under test; TestCheckValues compares that with published ones.
func valueOf(t *testing.T, m Material, digits string) string {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	require.NoError(t, err)
	key := secret.Take(raw)
	defer key.Wipe()
	v, err := m.CheckValue(key)
	require.NoError(t, err)
	return v.String()
}

func TestCheckValues(t *testing.T) {
	tests := []struct {
		algorithm string
		bits      int
		key, want string
	}{
		{"3DES", 112, "0123456789ABCDEFFEDCBA9876543210", "08D7B4"},                 // all five by openssl
		{"3DES", 168, "0123456789ABCDEFFEDCBA98765432100123456789ABCDEF", "08D7B4"}, // three-key with K1 = K3 is two-key
		{"AES", 128, "2B7E151628AED2A6ABF7158809CF4F3C", "7AD386"},
		{"AES", 256, "603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4", "1A0B2D"},
		{"SM4", 128, "0123456789ABCDEFFEDCBA9876543210", "2677F4"},
	}
	for _, test := range tests {
		m, err := NewMaterial(test.algorithm, test.bits)
		require.NoError(t, err)
		assert.Equal(t, test.want, valueOf(t, m, test.key), "%v", m)
	}
	_, err := NewMaterial("3DES", 56)
	require.Error(t, err)
}

// planOf is the import of a 3DES master from components.
func planOf(t *testing.T, whole string, components ...string) *Plan {
	t.Helper()
	f := File{
		Ceremony: "import-key", Change: changeOfTest, KeySet: "demo", Kind: "load", Version: 1, Boundary: "TOKEN", Algorithm: "3DES",
		KCV: valueOf(t, Material{tdes, 112}, whole), Record: "record.txt",
	}
	for i := range components {
		f.Custodians = append(f.Custodians, CustodianFile{Name: []string{"li-na", "wang-wei", "zhao"}[i]})
	}
	p, err := New(f, t.TempDir())
	require.NoError(t, err)
	return p
}

// sumOf adds components.
func sumOf(t *testing.T, components ...string) string {
	t.Helper()
	sum := make([]byte, 16)
	for _, c := range components {
		raw, err := hex.DecodeString(strings.ReplaceAll(c, " ", ""))
		require.NoError(t, err)
		for i := range sum {
			sum[i] ^= raw[i]
		}
	}
	return hex.EncodeToString(sum)
}

func TestComponentsMakeTheKey(t *testing.T) {
	tests := []struct {
		name       string
		components []string
		adjusted   int
	}{
		{"two of odd parity make even parity, which is said", []string{first, third}, 16},
		{"three of odd parity", []string{first, second, third}, 0},
		{"in any writing", []string{strings.ToLower(strings.ReplaceAll(first, " ", "")), strings.ReplaceAll(third, " ", "-")}, 16},
	}
	for _, test := range tests {
		plain := make([]string, len(test.components))
		s := &script{}
		for i, c := range test.components {
			plain[i] = strings.ReplaceAll(strings.ReplaceAll(c, "-", ""), " ", "")
			s.answers = append(s.answers, c, "yes")
		}
		p := planOf(t, sumOf(t, plain...), test.components...)
		whole, err := Enter(context.Background(), s, p)
		require.NoError(t, err, test.name)
		want, err := hex.DecodeString(sumOf(t, plain...))
		require.NoError(t, err)
		deskey.SetOddParity(want)
		assert.Equal(t, want, whole.Key.Reveal("test"), test.name)
		assert.Equal(t, test.adjusted, whole.Adjusted, test.name)
		assert.Equal(t, p.KCV.Value, whole.KCV.String())
		whole.Key.Wipe()
		s.showsNoDigitsOf(t, plain...)
		assert.Empty(t, s.secrets)
		assert.Empty(t, s.now.String(), "the screen is cleared after the last custodian")
		assert.Equal(t, 2*len(plain), strings.Count(s.shown.String(), "[clear]"))
	}
}

// Of AES the check value may have five bytes, as X9.24-1 has it.
func TestLongCheckValues(t *testing.T) {
	one, other := "2B7E151628AED2A6ABF7158809CF4F3C", strings.Repeat("0", 31)+"1"
	enter := func(value string) error {
		p, err := New(File{Ceremony: "import-transport", Change: changeOfTest, Transport: "bank", Algorithm: "AES", Bits: 128, KCV: value,
			Custodians: []CustodianFile{{Name: "a"}, {Name: "b"}}, Record: "r"}, t.TempDir())
		require.NoError(t, err)
		whole, err := Enter(context.Background(), &script{answers: []string{sumOf(t, one, other), "yes", other, "yes"}}, p)
		whole.Key.Wipe()
		return err
	}
	require.NoError(t, enter("7AD386"))
	require.NoError(t, enter("7ad386c376")) // openssl mac CMAC: 7AD386C3760F…
	require.ErrorIs(t, enter("7AD386C377"), ErrCheckValue)
}

func TestWrongComponents(t *testing.T) {
	m := Material{tdes, 112}
	zero, weak := strings.Repeat("0", 32), "0101010101010101"+"8080808080808080"
	one, other := strings.ReplaceAll(first, " ", ""), strings.ReplaceAll(third, " ", "")
	expecting := func(p *Plan, values ...string) *Plan {
		for i, v := range values {
			p.Custodians[i].KCV = v
		}
		return p
	}
	good := planOf(t, sumOf(t, one, other), first, third)
	withValues := expecting(planOf(t, sumOf(t, one, other), first, third), valueOf(t, m, one), valueOf(t, m, other))
	ones, three := strings.Repeat("01", 16), planOf(t, one, first, second, third)
	anyParity := planOf(t, sumOf(t, one, other), first, third)
	anyParity.OddParity = false
	tests := []struct {
		name    string
		plan    *Plan
		answers []string
		want    error
		says    string
	}{
		{"too short, thrice", good, []string{"0123", "01", ""}, ErrTooManyTries, "Not taken: 4 hex digits, expected 32."},
		{"too long, thrice", good, []string{one + "01", one + "0", one + one}, ErrTooManyTries, "Not taken: 34 hex digits, expected 32."},
		{"no hex digit", good, []string{"0123456X", "G", "\x00"}, ErrTooManyTries, "Not taken: character 8 is no hex digit."},
		{"parity", good, []string{"00" + one[2:], one[:30] + "11", one[:2] + "22" + one[4:]}, ErrTooManyTries, "parity is wrong in the digits 1-2."},
		{"zeros", good, []string{zero, zero, zero}, ErrTooManyTries, "all digits are zero"},
		{"nothing but parity", good, []string{ones, ones, ones}, ErrTooManyTries, "nothing but parity"},
		{"two of three that cancel each other", three, []string{other, "yes", other, "yes", one, "yes"}, ErrWeakKey, ""},
		{"not the one on the paper, thrice", good, []string{one, "no", one, "no", one, ""}, ErrTooManyTries, "Is it the one on your paper?"},
		{"the second custodian, thrice", good, []string{one, "yes", "1", "2", "3"}, ErrTooManyTries, "Component 2 of 2"},
		{"another key", good, []string{one, "yes", strings.ReplaceAll(second, " ", ""), "yes"}, ErrCheckValue, ""},
		{"equal components", good, []string{one, "yes", one, "yes"}, ErrWeakKey, ""},
		{"a weak sum", anyParity, []string{one, "yes", sumOf(t, one, weak), "yes"}, ErrWeakKey, ""},
		{"an equal-halved sum", anyParity, []string{one, "yes", sumOf(t, one, one[:16]+one[:16]), "yes"}, ErrWeakKey, ""},
		{"in the wrong order", withValues, []string{other, other, other}, ErrTooManyTries, "Not taken: its check value is " + valueOf(t, m, other) + ", expected " + valueOf(t, m, one)},
		{"the terminal is closed", good, []string{one, "yes"}, errClosed, ""},
		{"the terminal is closed at once", good, nil, errClosed, ""},
	}
	for _, test := range tests {
		s := &script{answers: test.answers}
		whole, err := Enter(context.Background(), s, test.plan)
		require.ErrorIs(t, err, test.want, test.name)
		assert.Zero(t, whole.Key.Len(), test.name)
		assert.Contains(t, s.shown.String(), test.says, test.name)
		s.showsNoDigitsOf(t, one, other)
		assert.Empty(t, s.now.String(), test.name)
		assert.NotContains(t, err.Error(), one[:6], test.name)
		assert.LessOrEqual(t, s.asked, len(test.plan.Custodians)-1+maxTries, test.name)
	}
}

// A wrong component may be typed again, and the right one is taken.
func TestTypedAgain(t *testing.T) {
	one, other := strings.ReplaceAll(first, " ", ""), strings.ReplaceAll(third, " ", "")
	s := &script{answers: []string{"12", one, "no", one, "yes", other, "yes"}}
	whole, err := Enter(context.Background(), s, planOf(t, sumOf(t, one, other), first, third))
	require.NoError(t, err)
	whole.Key.Wipe()
}

// A screen that cannot be cleared ends the ceremony.
func TestAScreenThatStays(t *testing.T) {
	s := &script{broken: errClosed}
	_, err := Enter(context.Background(), s, planOf(t, sumOf(t, first, third), first, third))
	require.ErrorIs(t, err, errClosed)
	assert.Zero(t, s.asked)
}

func makePlan(t *testing.T, algorithm string, bits, custodians int) *Plan {
	t.Helper()
	f := File{Ceremony: "make-components", Transport: "bank", Algorithm: algorithm, Bits: bits, Record: "r"}
	for i := range custodians {
		f.Custodians = append(f.Custodians, CustodianFile{Name: []string{"li-na", "wang-wei", "zhao"}[i]})
	}
	p, err := New(f, t.TempDir())
	require.NoError(t, err)
	return p
}

// copying is a custodian who writes down what is shown and types its check value.
type copying struct {
	script
	t    *testing.T
	m    Material
	slip map[int]string // what is typed instead, by the number of the answer
	n    int
}

func (c *copying) Line(ctx context.Context, prompt string) (string, error) {
	c.n++
	answer := ""
	if slip, is := c.slip[c.n]; is {
		answer = slip
	} else if _, name, named := strings.Cut(prompt, "is for "); named {
		answer, _, _ = strings.Cut(name, ",")
	} else {
		answer = valueOf(c.t, c.m, strings.TrimSpace(c.secrets[len(c.secrets)-1]))
	}
	c.answers = []string{answer}
	return c.next(prompt)
}

// What Make shows is what Enter takes.
func TestMadeComponentsComeBack(t *testing.T) {
	for _, test := range []struct {
		algorithm        string
		bits, custodians int
	}{{"AES", 256, 2}, {"AES", 128, 3}, {"3DES", 112, 2}, {"3DES", 168, 3}} {
		p := makePlan(t, test.algorithm, test.bits, test.custodians)
		s := &copying{t: t, m: p.Material, slip: map[int]string{2: "000000"}}
		whole, err := Make(context.Background(), s, p, rand.Reader)
		require.NoError(t, err)
		assert.Zero(t, whole.Key.Len())
		require.Len(t, s.secrets, test.custodians)
		assert.Empty(t, s.now.String())
		s.showsNoDigitsOf(t, s.secrets...)

		p.KCV, p.OddParity = custody.CheckValue{Value: whole.KCV.String()}, test.algorithm == "3DES"
		again := &script{}
		for _, shown := range s.secrets {
			again.answers = append(again.answers, strings.TrimSpace(shown), "yes")
		}
		entered, err := Enter(context.Background(), again, p)
		require.NoError(t, err)
		assert.Equal(t, whole.Components, entered.Components)
		entered.Key.Wipe()
	}
}

func TestMakeFailsClosed(t *testing.T) {
	p := makePlan(t, "AES", 256, 2)
	_, err := Make(context.Background(), &copying{t: t, m: p.Material}, p, bytes.NewReader(make([]byte, 1000)))
	require.ErrorIs(t, err, ErrWeakKey, "a generator of zeros")
	_, err = Make(context.Background(), &copying{t: t, m: p.Material}, p, iotest.ErrReader(errClosed))
	require.ErrorIs(t, err, errClosed)

	s := &copying{t: t, m: p.Material, slip: map[int]string{1: "eve", 2: "eve", 3: "eve"}}
	_, err = Make(context.Background(), s, p, rand.Reader)
	require.ErrorIs(t, err, ErrRefused)
	assert.Empty(t, s.secrets, "nothing is shown to somebody else")

	s = &copying{t: t, m: p.Material, slip: map[int]string{2: "", 3: "x", 4: "y"}}
	_, err = Make(context.Background(), s, p, rand.Reader)
	require.ErrorIs(t, err, ErrRefused, "not written down")
	assert.Empty(t, s.now.String())
}

func TestTheRecordIsReadable(t *testing.T) {
	p, _, _ := matching(t)
	var out strings.Builder
	require.NoError(t, Record{
		Plan: p, At: time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC), Reason: "new \"key\"\x1b[2J", Author: "zhao", Outcome: "imported", Revision: 3,
		Token: "test", Program: "pursekeeper v1", Whole: Whole{Adjusted: 16, Components: []kcv.Value{{1, 2, 3}, {4, 5, 6}}},
		Approvals: []Approval{{Officer: "li-na", Key: "SHA256:x", At: time.Date(2026, 11, 26, 19, 0, 0, 0, time.UTC)}},
	}.Write(&out))
	for _, want := range []string{
		"import-key of demo/load/1", "2026-11-26T20:00:00Z", "check value 010203, of li-na", "check value 040506, of Wáng Wěi", "check value 08D7B4 (3DES)",
		"16 parity bits", "li-na at 2026-11-26T19:00:00Z with SHA256:x", "revision 3", "O'Neill",
	} {
		assert.Contains(t, out.String(), want)
	}
	assert.NotContains(t, out.String(), "\x1b")
}
