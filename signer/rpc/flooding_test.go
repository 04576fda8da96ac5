package rpc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/signer"
)

// floodChild, in the environment, makes this test binary a flood of that order, which begins and ends as its standard input says.
const floodChild = "PURSEKEEPER_TEST_FLOOD"

func TestMain(m *testing.M) {
	if text := os.Getenv(floodChild); text != "" {
		flood(text)
		return
	}
	os.Exit(m.Run())
}

// The floods.
const (
	floodRequests = "requests"
	floodBatches  = "batches"
	floodStreams  = "streams"
)

// floodOrder is what a flood is told.
type floodOrder struct {
	Kind, Base                  string
	Authority, Certificate, Key []byte
	Rate                        float64 // of requests, a second
	Cards                       uint64  // the first
}

// flooding is a flood as its parent has it.
type flooding struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

// startFlood starts the process of a flood, which is ready, and does nothing, when it returns.
func (f *flooded) startFlood(t *testing.T, kind string, rate float64, number int) *flooding {
	certificate, key, err := f.authority.Client(devpki.Identity("flood"), time.Now().Add(time.Hour))
	require.NoError(t, err)
	order, err := json.Marshal(floodOrder{
		Kind: kind, Base: "https://" + f.public.String(), Authority: f.authority.Certificate(), Certificate: certificate, Key: key, Rate: rate,
		Cards: 0x3105229000000000 + uint64(number)<<24,
	})
	require.NoError(t, err)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), floodChild+"="+string(order))
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	require.NoError(t, err)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	c := &flooding{t, in, bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = in.Close() // it ends the child
		if err := child.Wait(); !t.Failed() {
			assert.NoError(t, err, "the flood")
		}
	})
	require.Equal(t, "ready", c.line())
	return c
}

func (c *flooding) line() string {
	require.True(c.t, c.out.Scan(), "the flood ended: %v", c.out.Err())
	return c.out.Text()
}

// begin returns when the flood has had its first answer.
func (c *flooding) begin() {
	_, err := fmt.Fprintln(c.in, "begin")
	require.NoError(c.t, err)
	require.Equal(c.t, "begun", c.line())
}

// end returns what the flood did.
func (c *flooding) end() string {
	_, err := fmt.Fprintln(c.in, "end")
	require.NoError(c.t, err)
	return c.line()
}

// childTB is what helpers of tests ask for, in a process that is no test: it ends with the first failure.
type childTB struct{ testing.TB }

func (childTB) Helper()                  {}
func (childTB) Context() context.Context { return context.Background() }
func (childTB) FailNow()                 { os.Exit(1) }

func (childTB) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "the flood: "+format+"\n", args...)
	os.Exit(1)
}

func (c childTB) Error(args ...any) { c.Errorf("%s", fmt.Sprint(args...)) }

// flooder is a flood in its own process. Whoever else uses the processors has them first: a flood comes from other machines.
type flooder struct {
	childTB
	order floodOrder
	tls   *tls.Config
	cards *cards
	batch []byte

	sent, done, refused atomic.Int64
	first               chan struct{} // closed with the first answer
	once                *sync.Once
}

func flood(text string) {
	f := &flooder{}
	require.NoError(f, json.Unmarshal([]byte(text), &f.order))
	require.NoError(f, unix.Setpriority(unix.PRIO_PROCESS, 0, 10))
	pair, err := tls.X509KeyPair(f.order.Certificate, f.order.Key)
	require.NoError(f, err)
	roots := x509.NewCertPool()
	require.True(f, roots.AppendCertsFromPEM(f.order.Authority))
	f.tls = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	f.cards = newCards(f)
	f.cards.next.Store(f.order.Cards)
	run := map[string]func(context.Context){floodRequests: f.requests(), floodBatches: f.batches, floodStreams: f.streams}[f.order.Kind]
	if f.order.Kind == floodBatches {
		f.batch, err = proto.Marshal(rightTACs(f, signer.MaxTACs))
		require.NoError(f, err)
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() { // begin
		ctx, end := context.WithCancel(context.Background())
		f.sent.Store(0)
		f.done.Store(0)
		f.refused.Store(0)
		f.first, f.once = make(chan struct{}), &sync.Once{}
		start, ended := time.Now(), make(chan struct{})
		go func() { run(ctx); close(ended) }()
		<-f.first
		fmt.Println("begun")
		require.True(f, in.Scan()) // end
		end()
		<-ended
		a := func(n *atomic.Int64) float64 { return float64(n.Load()) / time.Since(start).Seconds() }
		fmt.Printf("%.1f a second sent, %.1f had, %.1f refused\n", a(&f.sent), a(&f.done), a(&f.refused))
	}
}

// answered counts an answer.
func (f *flooder) answered(count *atomic.Int64) {
	count.Add(1)
	f.once.Do(func() { close(f.first) })
}

func (f *flooder) dial() caller {
	return caller{f, &http.Client{Transport: &http.Transport{TLSClientConfig: f.tls.Clone(), ForceAttemptHTTP2: true}}, f.order.Base}
}

// requests sends single loads at the rate, open loop, on a few connections, each until it is done: the same again would cost the token nothing.
// At most floodOutstanding are unanswered, which is more than may wait: a machine that does not keep up is not to drown in them.
func (f *flooder) requests() func(ctx context.Context) {
	var connections []caller
	for range 4 {
		connections = append(connections, f.dial())
	}
	loads := make(chan []byte, 2*floodOutstanding)
	return func(ctx context.Context) {
		var out atomic.Int64
		pace(ctx, f.order.Rate, func(time.Time) {
			defer out.Add(-1)
			if out.Add(1) > floodOutstanding {
				return
			}
			var load []byte
			select {
			case load = <-loads:
			default:
				var err error
				load, err = proto.Marshal(f.cards.deal())
				require.NoError(f, err)
			}
			n := int(f.sent.Add(1))
			switch status := connections[n%len(connections)].post1(context.Background(), f, authorizeLoad, load); status {
			case http.StatusOK:
				f.answered(&f.done)
			case http.StatusTooManyRequests:
				f.answered(&f.refused)
				select {
				case loads <- load:
				default:
				}
			default:
				f.Errorf("status %d", status)
			}
		})
		require.NotZero(f, f.refused.Load(), "it was no flood")
		require.NotZero(f, f.done.Load(), "the flood's own share")
	}
}

// post1 posts a message in binary, drops the answer, and returns the status; 0: there was none.
func (c caller) post1(ctx context.Context, t testing.TB, method string, body []byte) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+method, bytes.NewReader(body))
	if !assert.NoError(t, err) {
		return 0
	}
	request.Header.Set("Content-Type", "application/proto")
	response, err := c.http.Do(request)
	if !assert.NoError(t, err) {
		return 0
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	if _, err = io.Copy(io.Discard, response.Body); !assert.NoError(t, err) {
		return 0
	}
	return response.StatusCode
}

// batches sends batches of ten thousand TACs, several back to back at any time.
func (f *flooder) batches(ctx context.Context) {
	var senders sync.WaitGroup
	for range 3 {
		connection := f.dial()
		senders.Go(func() {
			defer connection.http.CloseIdleConnections()
			for ctx.Err() == nil {
				if f.sent.Add(1); f.sent.Load() == 3 {
					f.once.Do(func() { close(f.first) }) // an answer takes longer than a window may
				}
				if status := connection.post1(context.Background(), f, verifyTacs, f.batch); status != http.StatusOK {
					f.Errorf("status %d", status)
				}
				f.answered(&f.done)
			}
		})
	}
	senders.Wait()
}

// streams sends on some streams as fast as it may. It is slowed down, and nothing of it is refused.
func (f *flooder) streams(ctx context.Context) {
	var all sync.WaitGroup
	for range 4 {
		c := f.dial()
		stream, err := c.signer(connect.WithGRPC()).Transact(ctx) // ends with ctx, whatever is under way
		require.NoError(f, err)
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := stream.Send(loadOf(fmt.Sprint(i), f.cards.deal())); err != nil {
					require.Error(f, ctx.Err(), "%v", err)
					return
				}
				f.sent.Add(1)
			}
		})
		all.Go(func() {
			defer c.http.CloseIdleConnections()
			for {
				m, err := stream.Receive()
				if err != nil {
					require.Error(f, ctx.Err(), "%v", err)
					return
				}
				require.Nil(f, m.GetError())
				f.answered(&f.done)
			}
		})
	}
	all.Wait()
	require.NotZero(f, f.done.Load())
}
