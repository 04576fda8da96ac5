package hsm

import (
	"os"
	"runtime"
)

// processors is what the process may use, before MakeRoom.
var processors = runtime.GOMAXPROCS(0)

// Processors is how many processors the process may use: what work in memory is to be divided among. After MakeRoom,
// runtime.GOMAXPROCS tells more.
func Processors() int { return processors }

// MakeRoom lets Go's own work go on while so many calls are inside a token's library. A call in C holds one of the places on which
// goroutines run until the runtime notices that it is slow, which may take it milliseconds: on two processors, two calls then hold up
// everything that feeds them. With a place more for each call, at most as many again, nothing waits for that; the operating system shares out the processors.
// It is for a program, not for a library, and leaves GOMAXPROCS of the environment as it is.
func MakeRoom(calls int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors + min(calls, processors))
	}
}
