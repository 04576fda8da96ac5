package store

import "sync"

// mostRecent bounds the bytes of the entries that are kept for the sealer. One that is later than that reads the database.
const mostRecent = 8 << 20

// recent holds the encodings of the newest entries that this process committed, until the sealer has asked for those after them. What the
// sealer hashes is then what was committed, and not what somebody has made of it in the file since.
type recent struct {
	mu    sync.Mutex // guards all below
	first uint64     // index of the first line
	lines [][]byte   // never written to
	bytes int
}

// add keeps the entries of a group, after it is durable. Where others are between, of another process or of a commit whose outcome was not
// known, what is before them is dropped.
func (r *recent) add(first uint64, lines [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first != r.first+uint64(len(r.lines)) {
		r.drop(len(r.lines))
		r.first = first
	}
	for _, line := range lines {
		r.lines = append(r.lines, line)
		r.bytes += len(line)
	}
	n := 0
	for over := r.bytes - mostRecent; over > 0; n++ {
		over -= len(r.lines[n])
	}
	r.drop(n)
}

func (r *recent) drop(n int) {
	for i := range n {
		r.bytes -= len(r.lines[i])
		r.lines[i] = nil
	}
	r.lines = r.lines[n:]
	r.first += uint64(n)
}

// take returns n entries from an index on and drops those before; nil when not all are there.
func (r *recent) take(from uint64, n int) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from < r.first || from+uint64(n) > r.first+uint64(len(r.lines)) {
		return nil
	}
	r.drop(int(from - r.first))
	return append([][]byte(nil), r.lines[:n]...)
}

// RecentEntries returns n entries from an index on, as they were committed, where this store still has them in memory, and else nil; then
// Entries has them. Those before them are forgotten. Nobody may write to what it returns.
func (s *Database) RecentEntries(from uint64, n int) [][]byte { return s.recent.take(from, n) }
