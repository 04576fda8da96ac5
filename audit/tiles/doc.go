// Package tiles is the layout of a sealed log on disk: C2SP tlog-tiles, with checkpoints as C2SP tlog-checkpoint signed notes.
// Any tool that reads tlog-tiles reads it.
//
//	DIR/checkpoint                   the newest signed checkpoint
//	DIR/tile/0/x001/234              256 leaf hashes, SHA-256 after RFC 6962: leaves 1234*256 to 1234*256+255
//	DIR/tile/0/x001/235.p/7          the first 7 of the next tile, while it is not full
//	DIR/tile/1/004                   256 hashes, each the root of a full tile of the level below; and so on
//	DIR/tile/entries/x001/234        the entries themselves: each two bytes of length, big-endian, then the encoding (package audit)
//	DIR/tile/entries/x001/235.p/7    likewise, while the bundle is not full
//	DIR/cosigned/1a2b3c4d            the newest checkpoint that a witness signed, by the hash of his key
//
// A number is written in groups of three digits, all but the last after an "x". What is full never changes. What is partial is
// kept until its full tile is sealed, so that whoever has just read an older checkpoint finds its tiles.
//
// Beside DIR, not in it, lie DIR.pub, the verifier key of the checkpoints, and DIR.lock, which the one sealer of a host holds.
package tiles
