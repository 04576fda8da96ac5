// Package testvectors holds numbers that the purse's computations must give, and replays them on any engine of package
// keyderive.
//
// A vector is one operation of EPURSE.md with its keys, its inputs and what must come out. [Embedded] are the two files of
// data/: published.json, numbers that third parties published and that reproduce, and computed.json, every operation in
// both algorithms, computed by another program. [Load] reads any file of the format:
//
//	{"source": …, "vectors": [ {id, source?, operation, algorithm,
//	  masterKey + factors | cardKey, tacMasterKey | tacCardKey, in: {…}, out: {…}, expect?} ]}
//
// The reader is strict, because a vector that was half understood would pass: an unknown or repeated field, a value of the
// wrong length, a missing input, an output that the operation does not make, two vectors of one id, and a file without a
// vector are errors, and so is a vector without provenance. Inputs that an operation does not use are read and let be.
//
//	Load ──▶ File ──Replay(Engine)──▶ Report ──Print──▶ table and failures
//
// [Replay] runs each operation on the path of a live transaction: a keyderive.Master diversified to the card, the session's
// Answer, and the layouts and command builders of package purse. A vector that expects a mismatch must be refused by that
// path's own comparison. Every output is accounted for: compared, compared by its effect where the engine does not show a
// key, refused as expected, or failed.
//
// The keys in vectors are public numbers. They are copied into locked memory like any key, and a report shows them.
package testvectors
