package hsm

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml"
)

// ProfileFile is a token profile as an operator writes it, in YAML. Numbers are those of the vendor's own header, written as
// there, such as 0x8000001B. What is left out the token lacks; known-answer tests find a number that is wrong.
type ProfileFile struct {
	// Name is what logs call the profile: [a-z0-9][a-z0-9-]{0,62}.
	Name string `yaml:"name"`

	// Tested says that this program's tests, or yours, passed on such a token. A service that runs with a profile that is not
	// tested says so in its log at every start.
	Tested bool `yaml:"tested"`

	// XORKeys is the mechanism that derives base XOR other of two keys of the token, its parameter the handle of the other
	// (CKM_XOR_BASE_AND_KEY). With it the tac and pin-reload keys of 3DES can be at the TOKEN boundary, else at CARD.
	XORKeys uint `yaml:"xorKeys"`

	// SM4 is left out of a token that has no SM4: those keys are then at the PROCESS boundary.
	SM4 *SM4File `yaml:"sm4"`

	// NoDerivation says that the token derives no keys: all are at the CARD boundary, and make card keys by ECB.
	NoDerivation bool `yaml:"noDerivation"`

	// ThreeKeyDES says that the token has no CKK_DES2: two-key DES keys are CKK_DES3 with the bytes L, R, L.
	ThreeKeyDES bool `yaml:"threeKeyDes"`

	// NoGCM says that the token has no AES in GCM mode (CKM_AES_GCM): masters of the PROCESS boundary are then sealed with AES-CCM, by
	// AES in ECB and CBC mode.
	NoGCM bool `yaml:"noGcm"`

	// Serial says that the token's library does one call at a time, however many sessions there are. Online transactions then take
	// turns in it, which spares them the wait for its locks. Left out, sessions work beside each other, as an HSM on a network wants.
	Serial bool `yaml:"serial"`

	// NoKeyWrap says that the token has no AES key wrap (CKM_AES_KEY_WRAP): copies for backup are then wrapped by AES in ECB mode, and masters
	// pass through locked memory when they are made and restored.
	NoKeyWrap bool `yaml:"noKeyWrap"`
}

// SM4File are the numbers of SM4, which PKCS#11 v2.40 does not fix.
type SM4File struct {
	// KeyType is the key type (CKK_SM4); keys are 16 bytes.
	KeyType uint `yaml:"keyType"`

	// ECB is SM4 in ECB mode, without a parameter and without padding (CKM_SM4_ECB).
	ECB uint `yaml:"ecb"`

	// CBC is SM4 in CBC mode without padding, its parameter an IV of 16 bytes (CKM_SM4_CBC).
	CBC uint `yaml:"cbc"`

	// DeriveECB derives a key by ECB encryption of data, its parameter CK_KEY_DERIVATION_STRING_DATA (CKM_SM4_ECB_ENCRYPT_DATA).
	// Left out, SM4 keys are at the CARD boundary.
	DeriveECB uint `yaml:"deriveEcb"`
}

// The shipped profiles whose names other packages say.
const (
	ProfileSoftHSM      = "softhsm"
	ProfileOpenCryptoki = "opencryptoki"
)

//go:embed profiles/*.yaml
var shippedProfiles embed.FS

// ShippedProfiles returns the names of the profiles that are built in, the default first.
func ShippedProfiles() []string {
	return []string{ProfileSoftHSM, ProfileOpenCryptoki, "thales-luna", "thales-protectserver", "westone"}
}

// ShippedProfile returns a profile that is built in.
func ShippedProfile(name string) (Profile, error) {
	if !slices.Contains(ShippedProfiles(), name) {
		return Profile{}, fmt.Errorf("token profile %q is not shipped, expected one of %v", name, ShippedProfiles())
	}
	data, err := shippedProfiles.ReadFile("profiles/" + name + ".yaml")
	if err != nil {
		return Profile{}, fmt.Errorf("shipped token profile %q: %w", name, err)
	}
	return ParseProfile(data)
}

var profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ParseProfile reads a token profile, YAML or JSON. An unknown or repeated field is an error, and so is a second document.
func ParseProfile(data []byte) (Profile, error) {
	var file ProfileFile
	decoder := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := decoder.Decode(&file); err != nil {
		if errors.Is(err, io.EOF) {
			return Profile{}, errors.New("token profile: empty")
		}
		return Profile{}, errors.New("token profile: " + yaml.FormatError(err, false, false))
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return Profile{}, errors.New("token profile: more than one document")
	}
	if !profileName.MatchString(file.Name) {
		return Profile{}, fmt.Errorf("token profile: name: %q does not match %v", file.Name, profileName)
	}
	profile := Profile{Name: file.Name, Tested: file.Tested, XORKeys: file.XORKeys,
		NoDerivation: file.NoDerivation, ThreeKeyDES: file.ThreeKeyDES, NoGCM: file.NoGCM, NoKeyWrap: file.NoKeyWrap, Serial: file.Serial}
	if s := file.SM4; s != nil {
		profile.SM4KeyType, profile.SM4ECB, profile.SM4CBC, profile.SM4Derive = s.KeyType, s.ECB, s.CBC, s.DeriveECB
		if *s == (SM4File{}) {
			return Profile{}, fmt.Errorf("token profile %q: sm4: empty: leave it out of a token that has no SM4", file.Name)
		}
	}
	if err := profile.validate(); err != nil {
		return Profile{}, fmt.Errorf("token %w (%s)", err, file.Name)
	}
	return profile, nil
}
