package config

import "github.com/pursekeeper/pursekeeper/internal/source"

// File is what an operator writes, in YAML. Every field is read; an unknown or repeated one is an error. Names of files are
// relative to the folder of the configuration. Hex digits are written in quotes.
type File struct {
	// Listen is the address, HOST:PORT, of the API: TLS 1.3, for clients with a certificate alone.
	Listen string `yaml:"listen"`
	// Admin is the address, HOST:PORT, of health, readiness, metrics and profiles. It asks nobody who they are, so it is a
	// loopback address, unless
	Admin string `yaml:"admin"`
	// AdminInsecureNonLoopback says that something else keeps strangers from the admin address.
	AdminInsecureNonLoopback bool `yaml:"adminInsecureNonLoopback"`

	TLS   TLSFile   `yaml:"tls"`
	Token TokenFile `yaml:"token"`
	Store StoreFile `yaml:"store"`
	Audit AuditFile `yaml:"audit"`
	// Clients, of a token for development alone, are callers that nobody decides on. They go with KeySets, and without them are left out.
	Clients []ClientFile `yaml:"clients"`
	// KeySets, of a token for development alone, are key sets that nobody decides on. Left out, the key sets, the clients and what they
	// may do are those of the catalogue in the store, which officers change.
	KeySets []KeySetFile `yaml:"keySets"`
	Limits  LimitsFile   `yaml:"limits"`
	// Admission is how clients share the service; left out, the defaults.
	Admission AdmissionFile `yaml:"admission"`
	Log       LogFile       `yaml:"log"`
}

// TLSFile names the files, PEM, of the API's TLS. They are read again when they change, while the service runs.
type TLSFile struct {
	// Certificate is the server's, followed by those between it and its root.
	Certificate string `yaml:"certificate"`
	// Key is the certificate's private key; only the owner may have access to the file (mode 0400 or 0600).
	Key string `yaml:"key"`
	// ClientCA holds the certificates that may have signed a client's. Nobody comes in without one.
	ClientCA string `yaml:"clientCA"`
	// CRL holds the list of revoked certificates of each authority in ClientCA, PEM, or DER where there is one. Left out, none is revoked.
	CRL string `yaml:"crl"`
	// CRLGrace is for how long after its next update was due a list still lets clients in, at most 168h; left out, not at all.
	CRLGrace string `yaml:"crlGrace"`
}

// TokenFile is the hardware security module.
type TokenFile struct {
	// Module is the path of the PKCS#11 library.
	Module string `yaml:"module"`
	// Label of the token, 1 to 32 bytes.
	Label string `yaml:"label"`
	// PIN says where the user's PIN comes from: {file: …}, {env: …} or {vault: …}. It is never written here.
	PIN source.Spec `yaml:"pin"`
	// SoftHSMConf is put in SOFTHSM2_CONF, which tells SoftHSM where its tokens are. Left out: the environment's own.
	SoftHSMConf string `yaml:"softhsmConf"`
	// Profile is what the token can do, and by which numbers: softhsm, opencryptoki, thales-luna, thales-protectserver or westone, or
	// the path of a profile file, which holds a slash or a dot. Left out, softhsm.
	Profile string `yaml:"profile"`
	// InFlight is how many calls may be inside the library at once, 1 to 256; left out, 2.
	InFlight *int `yaml:"inFlight"`
	// Queue is how many callers may wait for the token, 1 to 1048576; one more is refused at once. Left out, 256.
	Queue *int `yaml:"queue"`
	// Hang is after how long a call inside the library is written off, such as 5s; at least 100ms. Left out, 5s.
	Hang string `yaml:"hang"`
	// Development says that this token is one to try things on, not one that keeps real money's keys.
	Development bool `yaml:"development"`
}

// StoreFile is where the durable state is: exactly one of the two.
type StoreFile struct {
	// SQLite is the path of a database file, made if it is not there, in a folder that is. One node uses it.
	SQLite string `yaml:"sqlite"`
	// Postgres is a database that is there, and that several nodes may share.
	Postgres *PostgresFile `yaml:"postgres"`
}

// PostgresFile is a database of a PostgreSQL server.
type PostgresFile struct {
	// URL is postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=/FILE, with no password. Several HOST:PORT, separated by
	// commas, are one server and those that may take its place. A server on this machine, at a loopback address or by its socket
	// (?host=/FOLDER), needs no sslmode. Files are named by absolute paths.
	URL string `yaml:"url"`
	// Password says where the user's password comes from: {file: …}, {env: …} or {vault: …}. It is read for each connection. Left out, the
	// server asks for none: it knows the user by the socket, or by the certificate that sslcert and sslkey name.
	Password *source.Spec `yaml:"password"`
}

// AuditFile is where the sealed record is.
type AuditFile struct {
	// Directory is the folder of the sealed log, made if it is not there, in a folder that is. Beside it lie DIRECTORY.pub, the key
	// that verifies the log, and DIRECTORY.lock.
	Directory string `yaml:"directory"`
	// Origin is the log's name, which its checkpoints and its key carry: 1 to 128 letters, digits and . / _ -. It never changes.
	// Left out, pursekeeper/LABEL, of the token.
	Origin string `yaml:"origin"`
	// Witnesses are those who sign the log's checkpoints too; left out, none.
	Witnesses []WitnessFile `yaml:"witnesses"`
}

// WitnessFile is one witness, after C2SP tlog-witness.
type WitnessFile struct {
	// Name is how logs and metrics call it: 1 to 63 small letters, digits and -; unique.
	Name string `yaml:"name"`
	// URL is the submission prefix: https, or http to a loopback address.
	URL string `yaml:"url"`
	// Key is its verifier key of the type cosignature/v1, NAME+HASH+KEY.
	Key string `yaml:"key"`
	// CA is the file of the authority, PEM, that its certificate is under. Left out, those that the system trusts.
	CA string `yaml:"ca"`
}

// ClientFile is one caller of the API.
type ClientFile struct {
	// Name is how records and logs call it; unique.
	Name string `yaml:"name"`
	// Identity is a URI or a DNS name that the client's certificate carries; unique.
	Identity string `yaml:"identity"`
	// Role is platform, reader, officer, auditor, personaliser or operator.
	Role string `yaml:"role"`
	// KeySets are the names of those that it may use; at least one. One that is not in the catalogue yet may be named.
	KeySets []string `yaml:"keySets"`
	// MaxAmountFen is the most that one of its transactions may move, in fen; 0: no limit of its own.
	MaxAmountFen int64 `yaml:"maxAmountFen"`
}

// KeySetFile is one issuer's keys.
type KeySetFile struct {
	// Name is [a-z0-9][a-z0-9-]{0,62}, unique.
	Name string `yaml:"name"`
	// Algorithm is 3DES or SM4.
	Algorithm string `yaml:"algorithm"`
	// Profile is the card profile: pboc-ep, transport or fmcos, or the path of a profile file, which holds a slash or a dot.
	Profile string `yaml:"profile"`
	// IssuerFactors are the levels above the card: none, card (one: the card's issuer id), or a list of 16 hex digits each,
	// root first. Left out, as the profile says; a profile that has levels of its own allows no others here.
	IssuerFactors IssuerFactorsFile `yaml:"issuerFactors"`
	// TimeZone fills a date and time that a request leaves out, such as Asia/Shanghai.
	TimeZone string `yaml:"timeZone"`
	// MAC1FailureLimit is how many wrong MAC1s lock a card, 1 to 1000; left out, 5.
	MAC1FailureLimit *int `yaml:"mac1FailureLimit"`
	// TACVersion maps a KVER of this set to the version of the tac key that goes with it, where they differ.
	TACVersion map[int]int `yaml:"tacVersion"`
	// Keys are the master keys; at least one.
	Keys []KeyFile `yaml:"keys"`
}

// IssuerFactorsFile is a word or a list.
type IssuerFactorsFile struct {
	Word string
	List []string
}

// UnmarshalYAML takes either form.
func (f *IssuerFactorsFile) UnmarshalYAML(decode func(any) error) error {
	if decode(&f.List) == nil {
		return nil
	}
	f.List = nil
	return decode(&f.Word)
}

// KeyFile is one master key. The key is in the token; this says which it is and what it may do.
type KeyFile struct {
	// Kind is purchase, load, unload, overdraft, tac, pin-unblock, pin-reload, maintenance, control,
	// internal-auth, reader or reader-control.
	Kind string `yaml:"kind"`
	// Version is the card's KVER, 1 to 255.
	Version int `yaml:"version"`
	// State is pre-active, active, suspended, deactivated, compromised or destroyed.
	State string `yaml:"state"`
	// Boundary is TOKEN, CARD or PROCESS: how far from the token the key's use reaches. The token's profile says which of them it can
	// keep; with softhsm SM4 needs PROCESS, and of 3DES tac and pin-reload CARD at least.
	Boundary string `yaml:"boundary"`
	// KCV is the key's check value, six hex digits. A key of the token with another is not used.
	KCV string `yaml:"kcv"`
	// Label is the key's label in the token, 1 to 128 printable characters, unique; left out, SET/KIND/VERSION.
	Label string `yaml:"label"`
}

// LimitsFile bounds times.
type LimitsFile struct {
	// RequestTimeout is how long one request may take in all, at most 1m; left out, 5s.
	RequestTimeout string `yaml:"requestTimeout"`
	// ShutdownTimeout is how long requests in flight may take to end when the service is told to stop; left out, 20s.
	ShutdownTimeout string `yaml:"shutdownTimeout"`
	// ChallengeLife is how long a reader's secure module has to answer a challenge, 1s to 10m; left out, 2m.
	ChallengeLife string `yaml:"challengeLife"`
	// SessionLife is how long a session with an authenticated module lives, 1s to 168h; left out, 8h.
	SessionLife string `yaml:"sessionLife"`
}

// AdmissionFile is how clients share the service. What is beyond a client's bounds is answered resource_exhausted at once.
type AdmissionFile struct {
	// Slots is how many requests are worked on at once, of all clients, 1 to 65536 and at most token.queue. Left out, 16 for each of
	// token.inFlight, at least 64, and at most three quarters of token.queue.
	Slots *int `yaml:"slots"`
	// The bounds of each client.
	AdmissionBounds `yaml:",inline"`
	// Clients are the bounds of some clients; what is left out of one is as for each client.
	Clients []ClientAdmissionFile `yaml:"clients"`
}

// AdmissionBounds bound one client's requests.
type AdmissionBounds struct {
	// Queue is how many of its requests may wait for a slot, 1 to 65536; left out, as many as there are slots.
	Queue *int `yaml:"queue"`
	// Concurrency is how many of the slots it may have, 1 to 65536; left out, all.
	Concurrency *int `yaml:"concurrency"`
	// Rate is how many of its requests are taken per second, 1 to 1000000; 64 TACs of a batch are one. Left out, any number.
	Rate *int `yaml:"rate"`
	// Burst is how many are taken at once after a pause, 1 to 1000000; left out, those of a second.
	Burst *int `yaml:"burst"`
}

// ClientAdmissionFile is the bounds of one client.
type ClientAdmissionFile struct {
	// Name is that of the client.
	Name            string `yaml:"name"`
	AdmissionBounds `yaml:",inline"`
}

// LogFile is the log, which goes to standard error.
type LogFile struct {
	// Level is debug, info, warn or error; left out, info.
	Level string `yaml:"level"`
}
