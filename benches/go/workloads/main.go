// Workloads is the counterpart of benches/workloads: the same programs, as one would write them in Go, and the same line
// for each.
//
//	workloads WORKLOAD [--procs P] [--n N]
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

var bytesPerTask uint64

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
	bytesPerTask = (memoryKB("VmRSS:") - before) * 1024 / n
	close(gate)
	finished.Wait()
	return released.Load()
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
	fmt.Fprint(os.Stderr, "usage: workloads WORKLOAD [--procs P] [--n N]\nworkloads:")
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
	flags.Parse(os.Args[2:])
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
		elapsed := time.Since(start)
		fmt.Printf("peer=go workload=%s procs=%d n=%d ops=%d ns_per_op=%.2f rss_kb=%d check=%d",
			w.name, *procs, n, n, float64(elapsed.Nanoseconds())/float64(n), memoryKB("VmHWM:"), check)
		if bytesPerTask > 0 {
			fmt.Printf(" bytes_per_task=%d", bytesPerTask)
		}
		fmt.Println()
		if expected := w.check(n); check != expected {
			fmt.Fprintf(os.Stderr, "workloads: %s: the checksum is %d, and should be %d\n", w.name, check, expected)
			os.Exit(1)
		}
		return
	}
	usage()
}
