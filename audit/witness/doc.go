// Package witness offers the checkpoints of the sealed log to witnesses, after C2SP tlog-witness, and keeps what they sign.
//
// A witness remembers the last checkpoint of a log that he signed, and signs another only when it is proved to go on from it. So a log that
// was rewritten, cut or forked gets no more signatures of his, and whoever has his key sees that nothing before what he signed was changed
// since. Signing and sealing never wait for a witness.
//
// # One offer
//
//	POST URL/add-checkpoint
//	old SIZE                 of the checkpoint that the witness signed last
//	hashes                   of the proof that the new tree begins with the old, base64, one a line
//	                         an empty line
//	the checkpoint
//
// The answer's signatures are verified by the witness's key before they are kept: the newest cosigned checkpoint of each witness in
// cosigned/ of the log's folder, and the signature in the published checkpoint too, when no newer one was published meanwhile.
//
// # What raises an alarm
//
// [audit.WitnessConflict]: a witness signed another tree of this log, or a longer one. The log was rewritten or set back, or somebody else signs
// with its key: nothing else makes a witness say so. [audit.WitnessLate]: a witness has signed nothing for a while although there was something to sign.
package witness
