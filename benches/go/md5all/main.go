// Md5all is the counterpart of examples/md5all.rs: the bounded pipeline of the Go blog's "Pipelines and cancellation"
// (bounded.go) with the same changes. It goes on after a file that it cannot read, reads in chunks through one buffer
// for each digester, walks with WalkDir, which needs no stat for each file, and prints what md5sum prints.
//
// DIR should be a clean path: filepath.Join turns ./x into x.
package main

import (
	"bufio"
	"crypto/md5"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
)

const chunk = 64 << 10

// A found is a path to a regular file, or to something that could not be listed.
type found struct {
	path string
	err  error
}

// A result is the product of reading and summing a file using MD5.
type result struct {
	path string
	sum  [md5.Size]byte
	err  error
}

// walkFiles starts a goroutine to walk the directory tree at root and send the path of each regular file on the found
// channel. It sends the result of the walk on the error channel. If done is closed, walkFiles abandons its work.
func walkFiles(done <-chan struct{}, root string) (<-chan found, <-chan error) {
	paths := make(chan found)
	errc := make(chan error, 1)
	go func() {
		// Close the paths channel after WalkDir returns.
		defer close(paths)
		// No select needed for this send, since errc is buffered.
		errc <- filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil && path == root {
				return err
			}
			if err == nil && !d.Type().IsRegular() {
				return nil
			}
			select {
			case paths <- found{path, err}:
			case <-done:
				return errors.New("walk canceled")
			}
			return nil
		})
	}()
	return paths, errc
}

// digester reads path names from paths and sends digests of the corresponding files on c until either paths or done is
// closed.
func digester(done <-chan struct{}, paths <-chan found, c chan<- result) {
	buf := make([]byte, chunk)
	for f := range paths {
		r := result{path: f.path, err: f.err}
		if f.err == nil {
			r.sum, r.err = md5File(f.path, buf)
		}
		select {
		case c <- r:
		case <-done:
			return
		}
	}
}

// md5File returns the MD5 sum of a file's contents, read piece by piece through buf.
func md5File(path string, buf []byte) (sum [md5.Size]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer file.Close()
	h := md5.New()
	for {
		n, err := file.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			h.Sum(sum[:0])
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// md5All reads all the files in the file tree rooted at root and returns a map from file path to the MD5 sum of the
// file's contents, with the number of those it could not read.
func md5All(root string, digesters int) (map[string][md5.Size]byte, int, error) {
	// md5All closes the done channel when it returns; it may do so before receiving all the values from c and errc.
	done := make(chan struct{})
	defer close(done)

	paths, errc := walkFiles(done, root)

	// Start a fixed number of goroutines to read and digest files.
	c := make(chan result)
	var wg sync.WaitGroup
	wg.Add(digesters)
	for range digesters {
		go func() {
			digester(done, paths, c)
			wg.Done()
		}()
	}
	go func() {
		wg.Wait()
		close(c)
	}()
	// End of pipeline.

	m := make(map[string][md5.Size]byte)
	failed := 0
	for r := range c {
		if r.err != nil {
			failed++
			fmt.Fprintf(os.Stderr, "md5all: %v\n", r.err)
			continue
		}
		m[r.path] = r.sum
	}
	// Check whether the walk failed.
	if err := <-errc; err != nil {
		return nil, failed, err
	}
	return m, failed, nil
}

var escape = strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\r", "\\r")

func writeSums(m map[string][md5.Size]byte) error {
	paths := make([]string, 0, len(m))
	for path := range m {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for _, path := range paths {
		sum := m[path]
		if strings.ContainsAny(path, "\\\n\r") {
			out.WriteByte('\\')
			path = escape.Replace(path)
		}
		fmt.Fprintf(out, "%x  %s\n", sum, path)
	}
	return out.Flush()
}

func main() {
	digesters := flag.Int("j", 20, "read and sum `N` files at a time")
	flag.Parse()
	if flag.NArg() != 1 || *digesters < 1 {
		fmt.Fprintln(os.Stderr, "usage: md5all [-j N] DIR")
		os.Exit(2)
	}

	m, failed, err := md5All(flag.Arg(0), *digesters)
	if err == nil {
		if err = writeSums(m); errors.Is(err, syscall.EPIPE) {
			err = nil
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "md5all: %v\n", err)
	}
	if err != nil || failed > 0 {
		os.Exit(1)
	}
}
