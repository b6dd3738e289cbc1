// Workloads is the counterpart of benches/workloads: the same programs, as one would write them in Go, and the same line
// for each.
//
//	workloads WORKLOAD [--procs P] [--n N] [--hog computing|blocking]
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A workload is a program of some size n.
type workload struct {
	name  string
	n     uint64
	run   func(n uint64) uint64
	check func(n uint64) uint64 // the checksum that run is to give
}

var workloads = []workload{
	{"yield", 5_000_000, yield, same},
	{"spawn", 2_000_000, spawn, same},
	{"pingpong", 2_000_000, pingpong, sumBelow},
	{"spsc", 10_000_000, spsc, sumBelow},
	{"mpmc", 10_000_000, func(n uint64) uint64 { return mpmc(n, 128) }, sumBelow},
	{"mpmc0", 2_000_000, func(n uint64) uint64 { return mpmc(n, 0) }, sumBelow},
	{"select2", 2_000_000, select2, sumBelow},
	{"select_default", 100_000_000, selectDefault, same},
	{"sieve", 2_000, sieve, nthPrime},
	{"skynet", 1_000_000, skynet, sumBelow},
	{"chain", 100_000, chain, same},
	{"parked", 100_000, parked, same},
	{"sleepers", 100_000, sleepers, same},
	{"fanout", 10_000, fanout, plainRows},
	{"mixed", 1_000, mixed, func(uint64) uint64 { return pairs }},
}

func same(n uint64) uint64 { return n }

// sumBelow is 0 + 1 + ... + (n - 1), the checksum of messages that are numbered.
func sumBelow(n uint64) uint64 { return n * (n - 1) / 2 }

// yield has two goroutines that do nothing but yield, n times in all.
func yield(n uint64) uint64 {
	done := make(chan uint64)
	yields := func(n uint64) {
		for range n {
			runtime.Gosched()
		}
		done <- n
	}
	go yields(n / 2)
	go yields(n - n/2)
	return <-done + <-done
}

// spawn starts n goroutines that do nothing.
func spawn(n uint64) uint64 {
	var wg sync.WaitGroup
	for range n {
		wg.Add(1)
		go wg.Done()
	}
	wg.Wait()
	return n
}

// sendNumbers sends first, first + step, ... below end.
func sendNumbers(out chan<- uint64, first, step, end uint64) {
	for number := first; number < end; number += step {
		out <- number
	}
}

// sum adds up what it receives until the channel closes.
func sum(in <-chan uint64) (sum uint64) {
	for number := range in {
		sum += number
	}
	return sum
}

// pingpong sends n numbers there and back over two unbuffered channels.
func pingpong(n uint64) (sum uint64) {
	ping, pong := make(chan uint64), make(chan uint64)
	go func() {
		for number := range ping {
			pong <- number
		}
	}()
	for number := range n {
		ping <- number
		sum += <-pong
	}
	close(ping)
	return sum
}

// spsc sends n numbers from one goroutine to another.
func spsc(n uint64) uint64 {
	c := make(chan uint64, 128)
	go func() {
		sendNumbers(c, 0, 1, n)
		close(c)
	}()
	return sum(c)
}

// mpmc sends n numbers from eight goroutines to eight others.
func mpmc(n uint64, capacity int) (total uint64) {
	const peers = 8
	c := make(chan uint64, capacity)
	sums := make(chan uint64, peers)
	for range peers {
		go func() { sums <- sum(c) }()
	}
	var producers sync.WaitGroup
	for first := range uint64(peers) {
		producers.Add(1)
		go func() {
			sendNumbers(c, first, peers, n)
			producers.Done()
		}()
	}
	producers.Wait()
	close(c)
	for range peers {
		total += <-sums
	}
	return total
}

// select2 receives n numbers from two goroutines, the odd ones and the even ones, each over an unbuffered channel of its
// own.
func select2(n uint64) (sum uint64) {
	even, odd := make(chan uint64), make(chan uint64)
	go sendNumbers(even, 0, 2, n)
	go sendNumbers(odd, 1, 2, n)
	for range n {
		select {
		case number := <-even:
			sum += number
		case number := <-odd:
			sum += number
		}
	}
	return sum
}

// selectDefault looks n times for a message that never comes.
func selectDefault(n uint64) (empty uint64) {
	c := make(chan uint64, 1)
	for range n {
		select {
		case <-c:
		default:
			empty++
		}
	}
	return empty
}

// sieve is a chain of filters that grows by a goroutine with each prime, to the n-th prime.
func sieve(n uint64) uint64 {
	generate := func(out chan<- uint64) {
		for number := uint64(2); ; number++ {
			out <- number
		}
	}
	filter := func(in <-chan uint64, out chan<- uint64, prime uint64) {
		for number := range in {
			if number%prime != 0 {
				out <- number
			}
		}
	}
	numbers := make(chan uint64)
	go generate(numbers)
	for range n - 1 {
		prime := <-numbers
		out := make(chan uint64)
		go filter(numbers, out, prime)
		numbers = out
	}
	return <-numbers
}

// nthPrime is the n-th prime, by trial division.
func nthPrime(n uint64) uint64 {
	for i := uint64(2); ; i++ {
		prime := true
		for d := uint64(2); d*d <= i && prime; d++ {
			prime = i%d != 0
		}
		if prime {
			if n--; n == 0 {
				return i
			}
		}
	}
}

// skynet is a tree of goroutines with ten children each and n leaves. A leaf sends its number, the others the sum of
// what their children send.
func skynet(n uint64) uint64 {
	c := make(chan uint64)
	go skynetNode(c, 0, n)
	return <-c
}

func skynetNode(out chan<- uint64, first, leaves uint64) {
	if leaves == 1 {
		out <- first
		return
	}
	c := make(chan uint64)
	leaves /= 10
	for child := range uint64(10) {
		go skynetNode(c, first+child*leaves, leaves)
	}
	var sum uint64
	for range 10 {
		sum += <-c
	}
	out <- sum
}

// chain has n goroutines in a row, each of which waits for its right neighbour's number and sends one more to its left.
func chain(n uint64) uint64 {
	leftmost := make(chan uint64)
	left := leftmost
	for range n {
		right := make(chan uint64)
		go func(left chan<- uint64, right <-chan uint64) { left <- <-right + 1 }(left, right)
		left = right
	}
	left <- 0
	return <-leftmost
}

// What a run gives beside the checksum, where it is not the plain thing: the time to print, the operations, more fields.
var (
	outcomeTime   time.Duration
	outcomeOps    uint64
	outcomeFields string
)

// parked has n goroutines that wait for one channel to close: how much memory they take, and how long all of it.
func parked(n uint64) uint64 {
	var arrived, finished sync.WaitGroup
	var released atomic.Uint64
	gate := make(chan struct{})
	arrived.Add(int(n))
	finished.Add(int(n))
	before := memoryKB("VmRSS:")
	for range n {
		go func() {
			arrived.Done()
			<-gate
			released.Add(1)
			finished.Done()
		}()
	}
	arrived.Wait()
	outcomeFields = fmt.Sprintf(" bytes_per_task=%d", (memoryKB("VmRSS:")-before)*1024/n)
	close(gate)
	finished.Wait()
	return released.Load()
}

// cpuTime is the processor time that this process has had.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// sleepers has n goroutines, started at once, of which the i-th sleeps i mod 1000 ms. The time is the processor's.
func sleepers(n uint64) uint64 {
	before := cpuTime()
	var wg sync.WaitGroup
	var awake atomic.Uint64
	for i := range n {
		duration := time.Duration(i%1000) * time.Millisecond
		wg.Go(func() {
			start := time.Now()
			time.Sleep(duration)
			if time.Since(start) >= duration {
				awake.Add(1)
			}
		})
	}
	wg.Wait()
	outcomeTime = cpuTime() - before
	return awake.Load()
}

// mandelbrotRow is the iterations that row `row` of `rows` takes: some ten microseconds. The conversions keep products
// from being fused into sums, where the machine can do that.
func mandelbrotRow(row, rows uint64) (total uint64) {
	const width, limit = 256, 100
	ci := float64(2.5*float64(row)/float64(rows)) - 1.25
	for column := range width {
		cr := float64(2.5*float64(column)/width) - 2.0
		var zr, zi float64
		var iterations uint64
		for iterations < limit && float64(zr*zr)+float64(zi*zi) <= 4 {
			zr, zi = float64(zr*zr)-float64(zi*zi)+cr, float64(2*zr*zi)+ci
			iterations++
		}
		total += iterations
	}
	return total
}

func plainRows(n uint64) (total uint64) {
	for row := range n {
		total += mandelbrotRow(row, n)
	}
	return total
}

// fanout is n rows in a plain loop, then a goroutine for each. The speedup is that of the goroutines over the loop; the
// overhead is the part of the processors' time that the loop would not have taken.
func fanout(n uint64) uint64 {
	start := time.Now()
	expected := plainRows(n)
	plain := time.Since(start)

	start = time.Now()
	var wg sync.WaitGroup
	var total atomic.Uint64
	for row := range n {
		wg.Go(func() { total.Add(mandelbrotRow(row, n)) })
	}
	wg.Wait()
	outcomeTime = time.Since(start)
	if total.Load() != expected {
		panic("the goroutines have computed something else")
	}
	speedup := plain.Seconds() / outcomeTime.Seconds()
	overhead := float64(runtime.GOMAXPROCS(0))/speedup - 1
	outcomeFields = fmt.Sprintf(" overhead=%.4f speedup=%.3f", overhead, speedup)
	return total.Load()
}

// pairs is how many pairs there are in mixed.
const pairs = 1000

var hogBlocks bool

// mixed has pairs of goroutines play ping-pong for so many milliseconds beside a goroutine that keeps its processor.
func mixed(milliseconds uint64) uint64 {
	var stop atomic.Bool
	var arrived, finished sync.WaitGroup
	gate := make(chan struct{})
	times := make(chan []uint32, pairs)
	arrived.Add(pairs)
	for range pairs {
		ping, pong := make(chan uint64), make(chan uint64)
		go func() {
			for number := range ping {
				pong <- number
			}
		}()
		go func() {
			roundTrip := func(number uint64) uint32 {
				start := time.Now()
				ping <- number
				if <-pong != number {
					panic("another number has come back")
				}
				return uint32(min(time.Since(start).Nanoseconds(), 1<<32-1))
			}
			roundTrip(0) // Not counted: it starts the other one.
			arrived.Done()
			<-gate
			var trips []uint32
			for number := uint64(1); !stop.Load(); number++ {
				trips = append(trips, roundTrip(number))
			}
			close(ping)
			times <- trips
		}()
	}
	arrived.Wait()
	finished.Go(func() {
		for !stop.Load() {
			if hogBlocks {
				// A system call that the netpoller and the timers know nothing of.
				pause := syscall.NsecToTimespec((10 * time.Millisecond).Nanoseconds())
				syscall.Nanosleep(&pause, nil)
			}
		}
	})

	start := time.Now()
	close(gate)
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
	stop.Store(true)
	outcomeTime = time.Since(start)
	finished.Wait()
	var all []uint32
	for range pairs {
		all = append(all, <-times...)
	}
	outcomeOps = uint64(max(len(all), 1))
	if len(all) > 0 {
		slices.Sort(all)
		micros := func(at int) float64 { return float64(all[at]) / 1e3 }
		last := len(all) - 1
		outcomeFields = fmt.Sprintf(" p999_us=%.1f worst_us=%.1f", micros(last*999/1000), micros(last))
	}
	return pairs
}

// memoryKB is a line of this process's memory account.
func memoryKB(line string) uint64 {
	status, _ := os.ReadFile("/proc/self/status")
	for l := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(l, line); ok {
			kb, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kb
		}
	}
	return 0
}

func usage() {
	fmt.Fprint(os.Stderr, "usage: workloads WORKLOAD [--procs P] [--n N] [--hog computing|blocking]\nworkloads:")
	for _, w := range workloads {
		fmt.Fprint(os.Stderr, " ", w.name)
	}
	fmt.Fprintln(os.Stderr)
	os.Exit(2)
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	flags := flag.NewFlagSet("workloads", flag.ExitOnError)
	procs := flags.Int("procs", runtime.GOMAXPROCS(0), "run on `P` processors")
	size := flags.Uint64("n", 0, "the `size` of the workload, for any other than its own")
	hog := flags.String("hog", "computing", "what keeps a processor busy in mixed: computing, or blocking")
	flags.Parse(os.Args[2:])
	hogBlocks = *hog == "blocking"
	runtime.GOMAXPROCS(*procs)

	for _, w := range workloads {
		if w.name != os.Args[1] {
			continue
		}
		n := w.n
		if *size > 0 {
			n = *size
		}
		start := time.Now()
		check := w.run(n)
		if outcomeTime == 0 {
			outcomeTime = time.Since(start)
		}
		if outcomeOps == 0 {
			outcomeOps = n
		}
		fmt.Printf("peer=go workload=%s procs=%d n=%d ops=%d ns_per_op=%.2f rss_kb=%d check=%d%s\n", w.name, *procs, n,
			outcomeOps, float64(outcomeTime.Nanoseconds())/float64(outcomeOps), memoryKB("VmHWM:"), check, outcomeFields)
		if expected := w.check(n); check != expected {
			fmt.Fprintf(os.Stderr, "workloads: %s: the checksum is %d, and should be %d\n", w.name, check, expected)
			os.Exit(1)
		}
		return
	}
	usage()
}
