// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in tests/golang/LICENSE.

//! Power series: a series is a channel, along which flow its rational coefficients. A denominator of zero signifies the
//! end.
//!
//! The original is in Newsqueak, by Doug McIlroy; see his "Squinting at Power Series",
//! <https://swtch.com/~rsc/thread/squint.pdf>. Go has the program twice, with messages that are rationals and with
//! messages that are interfaces. Here it is generic over them: see `powser1` and `powser2`.
//!
//! In Go the goroutines of an infinite series stay behind. Here each side of a series is a type of its own; when the
//! reader is dropped, the writer's next operation fails and `?` ends it.
//!
//! Conventions: upper case for power series, lower case for rationals. `U`, `V`, .. are inputs, `Z` is the output.

#![allow(non_snake_case, reason = "the convention above, which is the original's")]

use std::ops::{Add, Mul, Neg};
use std::sync::atomic::{AtomicI64, Ordering};

use csp::{Receiver, Sender, go, select};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rat {
    num: i64,
    den: i64,
}

/// What flows along the channels.
pub(crate) trait Item: Send + Sized + 'static {
    fn new(rat: Rat) -> Self;
    fn rat(self) -> Rat;
}

/// The reader's side of a demand channel: a request goes up, an item comes down.
pub(crate) struct PS<T> {
    req: Sender<i64>,
    dat: Receiver<T>,
}

/// The writer's side.
pub(crate) struct Out<T> {
    req: Receiver<i64>,
    dat: Sender<T>,
}

impl<T> Clone for PS<T> {
    fn clone(&self) -> Self {
        PS { req: self.req.clone(), dat: self.dat.clone() }
    }
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        Out { req: self.req.clone(), dat: self.dat.clone() }
    }
}

/// Numbers the requests.
fn seqno() -> i64 {
    static SEQNO: AtomicI64 = AtomicI64::new(0);
    SEQNO.fetch_add(1, Ordering::Relaxed) + 1
}

fn mkPS<T>() -> (Out<T>, PS<T>) {
    let (req, requests) = csp::bounded(0);
    let (data, dat) = csp::bounded(0);
    (Out { req: requests, dat: data }, PS { req, dat })
}

fn mkPS2<T>() -> ([Out<T>; 2], [PS<T>; 2]) {
    let (out0, U0) = mkPS();
    let (out1, U1) = mkPS();
    ([out0, out1], [U0, U1])
}

/// Reads one series and copies it to two, which may be read at different rates. A goroutine is made at the first demand
/// for an item and ends after the item has been sent to both.
///
/// Where there are several generations of it, the newest serves the requests on one channel, which is always renamed to
/// be `out[0]`, and the oldest those on the other, `out[1]`. All but the newest hold items that `out[0]` has had. When
/// `out[1]` has had its item as well, a signal on the release-wait channel tells the next generation to begin to serve
/// `out[1]`.
///
/// (In Go the generations share the pair `out`. Each one swaps it only when all older ones have ended; so a copy does.)
fn dosplit<T: Item>(input: PS<T>, mut out: [Out<T>; 2], wait: Receiver<()>) -> Option<()> {
    let mut both = false; // do not serve both channels

    select! {
        Ok(_) = <-out[0].req => {}
        Ok(()) = <-wait => {
            both = true;
            select! {
                Ok(_) = <-out[0].req => {}
                Ok(_) = <-out[1].req => out.swap(0, 1),
                else => return None,
            }
        }
        else => return None,
    }

    input.req.send(seqno()).ok()?;
    let (release, released) = csp::bounded(0);
    go!(dosplit(input.clone(), out.clone(), released));
    let dat = input.dat.recv().ok()?.rat();
    out[0].dat.send(T::new(dat)).ok()?;
    if !both {
        wait.recv().ok()?;
    }
    out[1].req.recv().ok()?;
    out[1].dat.send(T::new(dat)).ok()?;
    release.send(()).ok()
}

fn split<T: Item>(input: PS<T>, out: [Out<T>; 2]) {
    let (release, released) = csp::bounded(0);
    go!(dosplit(input, out, released));
    _ = release.send(());
}

fn put<T: Item>(dat: Rat, out: &Out<T>) -> Option<()> {
    out.req.recv().ok()?;
    out.dat.send(T::new(dat)).ok()
}

pub(crate) fn get<T: Item>(input: &PS<T>) -> Option<Rat> {
    input.req.send(seqno()).ok()?;
    Some(input.dat.recv().ok()?.rat())
}

/// Gets one item from each of two series, whichever is ready first. A condition stands where Go sets a channel to nil.
fn get2<T: Item>(in0: &PS<T>, in1: &PS<T>) -> Option<[Rat; 2]> {
    let mut req = [true, true];
    let mut dat = [false, false];
    let mut out = [None, None];
    for _ in 0..4 {
        let seqno = seqno();
        select! {
            sent = in0.req <- seqno, if req[0] => {
                sent.ok()?;
                dat[0] = true;
                req[0] = false;
            }
            sent = in1.req <- seqno, if req[1] => {
                sent.ok()?;
                dat[1] = true;
                req[1] = false;
            }
            it = <-in0.dat, if dat[0] => {
                out[0] = Some(it.ok()?.rat());
                dat[0] = false;
            }
            it = <-in1.dat, if dat[1] => {
                out[1] = Some(it.ok()?.rat());
                dat[1] = false;
            }
        }
    }
    Some(out.map(|it| it.expect("two requests and two answers")))
}

fn copy<T: Item>(input: &PS<T>, out: &Out<T>) -> Option<()> {
    loop {
        out.req.recv().ok()?;
        out.dat.send(T::new(get(input)?)).ok()?;
    }
}

fn repeat<T: Item>(dat: Rat, out: &Out<T>) -> Option<()> {
    loop {
        put(dat, out)?;
    }
}

fn gcd(u: i64, v: i64) -> i64 {
    if u < 0 {
        return gcd(-u, v);
    }
    if u == 0 {
        return v;
    }
    gcd(v % u, u)
}

/// Makes a rational from two integers ..
pub(crate) fn i2tor(u: i64, v: i64) -> Rat {
    let g = gcd(u, v);
    if v > 0 { Rat { num: u / g, den: v / g } } else { Rat { num: -u / g, den: -v / g } }
}

/// .. and from one.
pub(crate) fn itor(u: i64) -> Rat {
    i2tor(u, 1)
}

pub(crate) const ZERO: Rat = Rat { num: 0, den: 1 };
pub(crate) const ONE: Rat = Rat { num: 1, den: 1 };

/// The end mark ..
const FINIS: Rat = Rat { num: 1, den: 0 };

/// .. and the end test.
fn end(u: Rat) -> bool {
    u.den == 0
}

impl Add for Rat {
    type Output = Rat;

    fn add(self, v: Rat) -> Rat {
        let u = self;
        let g = gcd(u.den, v.den);
        i2tor(u.num * (v.den / g) + v.num * (u.den / g), u.den * (v.den / g))
    }
}

impl Mul for Rat {
    type Output = Rat;

    fn mul(self, v: Rat) -> Rat {
        let u = self;
        let g1 = gcd(u.num, v.den);
        let g2 = gcd(u.den, v.num);
        Rat { num: (u.num / g1) * (v.num / g2), den: (u.den / g2) * (v.den / g1) }
    }
}

impl Neg for Rat {
    type Output = Rat;

    fn neg(self) -> Rat {
        i2tor(-self.num, self.den)
    }
}

/// Inverts a rational.
fn inv(u: Rat) -> Rat {
    assert!(u.num != 0, "zero divide in inv");
    i2tor(u.den, u.num)
}

/// Evaluates `n` terms of `U` at `c`.
pub(crate) fn eval<T: Item>(c: Rat, U: &PS<T>, n: usize) -> Rat {
    if n == 0 {
        return ZERO;
    }
    match get(U) {
        Some(y) if !end(y) => y + c * eval(c, U, n - 1),
        _ => ZERO,
    }
}

// The constructors of power series return channels on which they flow. Each starts a generator that puts the terms of
// its series on the channel.

/// A pair of series, both the same as the given one.
fn Split<T: Item>(U: PS<T>) -> [PS<T>; 2] {
    let (out, UU) = mkPS2();
    go!(split(U, out));
    UU
}

/// The sum of two series.
pub(crate) fn Add<T: Item>(U: PS<T>, V: PS<T>) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        loop {
            out.req.recv().ok()?;
            let uv = get2(&U, &V)?;
            match (end(uv[0]), end(uv[1])) {
                (false, false) => out.dat.send(T::new(uv[0] + uv[1])).ok()?,
                (true, false) => {
                    out.dat.send(T::new(uv[1])).ok()?;
                    copy(&V, &out)?;
                }
                (false, true) => {
                    out.dat.send(T::new(uv[0])).ok()?;
                    copy(&U, &out)?;
                }
                (true, true) => out.dat.send(T::new(FINIS)).ok()?,
            }
        }
    });
    Z
}

/// A series multiplied by a constant.
pub(crate) fn Cmul<T: Item>(c: Rat, U: PS<T>) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        loop {
            out.req.recv().ok()?;
            let u = get(&U)?;
            if end(u) {
                break;
            }
            out.dat.send(T::new(c * u)).ok()?;
        }
        out.dat.send(T::new(FINIS)).ok()
    });
    Z
}

pub(crate) fn Sub<T: Item>(U: PS<T>, V: PS<T>) -> PS<T> {
    Add(U, Cmul(-ONE, V))
}

/// A series multiplied by x^n.
pub(crate) fn Monmul<T: Item>(U: PS<T>, n: usize) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        for _ in 0..n {
            put(ZERO, &out)?;
        }
        copy(&U, &out)
    });
    Z
}

/// c + c x + c x^2 + ..
pub(crate) fn Rep<T: Item>(c: Rat) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || repeat(c, &out));
    Z
}

/// c x^n
pub(crate) fn Mon<T: Item>(c: Rat, n: usize) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        if c.num != 0 {
            for _ in 0..n {
                put(ZERO, &out)?;
            }
            put(c, &out)?;
        }
        put(FINIS, &out)
    });
    Z
}

/// c + x U
fn Shift<T: Item>(c: Rat, U: PS<T>) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        put(c, &out)?;
        copy(&U, &out)
    });
    Z
}

/// The product. The algorithm is: let U = u + x*UU and V = v + x*VV, then
/// UV = u*v + x*(u*VV+v*UU) + x*x*UU*VV.
pub(crate) fn Mul<T: Item>(U: PS<T>, V: PS<T>) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        out.req.recv().ok()?;
        let uv = get2(&U, &V)?;
        if end(uv[0]) || end(uv[1]) {
            out.dat.send(T::new(FINIS)).ok()
        } else {
            out.dat.send(T::new(uv[0] * uv[1])).ok()?;
            let [UU0, UU1] = Split(U);
            let [VV0, VV1] = Split(V);
            let W = Add(Cmul(uv[0], VV0), Cmul(uv[1], UU0));
            out.req.recv().ok()?;
            out.dat.send(T::new(get(&W)?)).ok()?;
            copy(&Add(W, Mul(UU1, VV1)), &out)
        }
    });
    Z
}

/// The derivative.
pub(crate) fn Diff<T: Item>(U: PS<T>) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        out.req.recv().ok()?;
        if !end(get(&U)?) {
            for i in 1.. {
                let u = get(&U)?;
                if end(u) {
                    break;
                }
                out.dat.send(T::new(itor(i) * u)).ok()?;
                out.req.recv().ok()?;
            }
        }
        out.dat.send(T::new(FINIS)).ok()
    });
    Z
}

/// The integral, with its constant.
pub(crate) fn Integ<T: Item>(c: Rat, U: PS<T>) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        put(c, &out)?;
        for i in 1.. {
            out.req.recv().ok()?;
            let u = get(&U)?;
            if end(u) {
                break;
            }
            out.dat.send(T::new(i2tor(1, i) * u)).ok()?;
        }
        out.dat.send(T::new(FINIS)).ok()
    });
    Z
}

/// The binomial series (1+x)^c.
pub(crate) fn Binom<T: Item>(mut c: Rat) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        let mut t = ONE;
        for n in 1.. {
            if c.num == 0 {
                break;
            }
            put(t, &out)?;
            t = t * c * i2tor(1, n);
            c = c + -ONE;
        }
        put(t, &out)?;
        put(FINIS, &out)
    });
    Z
}

/// The reciprocal. Let U = u + x*UU and Z = z + x*ZZ with (u+x*UU)*(z+x*ZZ) = 1; then z = 1/u and
/// u*ZZ + z*UU + x*UU*ZZ = 0, so that ZZ = -UU*(z+x*ZZ)/u.
pub(crate) fn Recip<T: Item>(U: PS<T>) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        let (ZZ, [ZZ0, ZZ1]) = mkPS2();
        out.req.recv().ok()?;
        let z = inv(get(&U)?);
        out.dat.send(T::new(z)).ok()?;
        split(Mul(Cmul(-z, U), Shift(z, ZZ0)), ZZ);
        copy(&ZZ1, &out)
    });
    Z
}

/// The exponential of a series, whose constant term would make irrational coefficients, and is ignored. Let Z = exp(U);
/// then DZ = Z*DU, and to integrate it gives Z.
pub(crate) fn Exp<T: Item>(U: PS<T>) -> PS<T> {
    let (ZZ, [ZZ0, ZZ1]) = mkPS2();
    split(Integ(ONE, Mul(ZZ0, Diff(U))), ZZ);
    ZZ1
}

/// V for x in U, where the constant term of V is ignored. Let U = u + x*UU and V = x*VV; then
/// S(U,V) = u + x*VV*S(UU,V).
pub(crate) fn Subst<T: Item>(U: PS<T>, V: PS<T>) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        let [VV0, VV1] = Split(V);
        out.req.recv().ok()?;
        let u = get(&U)?;
        out.dat.send(T::new(u)).ok()?;
        if end(u) {
            return Some(());
        }
        if end(get(&VV0)?) { put(FINIS, &out) } else { copy(&Mul(VV0, Subst(U, VV1)), &out) }
    });
    Z
}

/// U(c x^n): each term is multiplied by c^i and followed by n-1 zeros.
pub(crate) fn MonSubst<T: Item>(U: PS<T>, c0: Rat, n: usize) -> PS<T> {
    let (out, Z) = mkPS();
    go!(move || -> Option<()> {
        let mut c = ONE;
        loop {
            out.req.recv().ok()?;
            let u = get(&U)?;
            if end(u) {
                return out.dat.send(T::new(FINIS)).ok();
            }
            out.dat.send(T::new(u * c)).ok()?;
            c = c * c0;
            for _ in 1..n {
                out.req.recv().ok()?;
                out.dat.send(T::new(ZERO)).ok()?;
            }
        }
    });
    Z
}

#[track_caller]
fn check<T: Item>(U: PS<T>, c: Rat, count: usize, str: &str) {
    for _ in 0..count {
        assert_eq!(get(&U), Some(c), "{str}");
    }
}

const N: usize = 10;

#[track_caller]
fn checka<T: Item>(U: PS<T>, a: [Rat; N], str: &str) {
    for c in a {
        assert_eq!(get(&U), Some(c), "{str}");
    }
}

pub(crate) fn main<T: Item>() {
    let Ones = Rep::<T>(ONE);
    let Twos = Rep::<T>(itor(2));
    check(Ones.clone(), ONE, 5, "Ones");
    check(Add(Ones.clone(), Ones.clone()), itor(2), 5, "Add Ones Ones"); // 2 2 2 2 2
    check(Add(Ones.clone(), Twos.clone()), itor(3), 5, "Add Ones Twos"); // 3 3 3 3 3
    let d = Diff(Ones.clone());
    checka(d, std::array::from_fn(|i| itor(i as i64 + 1)), "Diff"); // 1 2 3 4 5
    let r#in = Integ(ZERO, Ones.clone());
    // 0 1 1/2 1/3 1/4 1/5
    checka(r#in, std::array::from_fn(|i| if i == 0 { ZERO } else { i2tor(1, i as i64) }), "Integ");
    check(Cmul(-ONE, Twos.clone()), itor(-2), 10, "CMul"); // -2 -2 -2 -2 -2
    check(Sub(Ones.clone(), Twos), itor(-1), 5, "Sub Ones Twos"); // -1 -1 -1 -1 -1
    let m = Mul(Ones.clone(), Ones.clone());
    checka(m, std::array::from_fn(|i| itor(i as i64 + 1)), "Mul"); // 1 2 3 4 5
    let e = Exp(Ones.clone());
    let a = [
        itor(1),
        itor(1),
        i2tor(3, 2),
        i2tor(13, 6),
        i2tor(73, 24),
        i2tor(167, 40),
        i2tor(4051, 720),
        i2tor(37633, 5040),
        i2tor(43817, 4480),
        i2tor(4596553, 362880),
    ];
    checka(e, a, "Exp"); // 1 1 3/2 13/6 73/24
    let at = Integ(ZERO, MonSubst(Ones.clone(), -ONE, 2));
    let sign = |i: usize| if i % 4 == 1 { 1 } else { -1 };
    let a = std::array::from_fn(|i| if i % 2 == 0 { ZERO } else { i2tor(sign(i), i as i64) });
    checka(at, a, "ATan"); // 0 1 0 -1/3 0 1/5
}

/// Not in Go's program, which defines these and does not use them.
pub(crate) fn more<T: Item>() {
    let Ones = || Rep::<T>(ONE);
    // 1 / (1 - x - x^2 - ..) = 1 + x + 2x^2 + 4x^3 ..; and 1 / (1 + x + x^2 ..) = 1 - x
    let r = Recip(Ones());
    let minus = |i| [ONE, -ONE].get(i).copied().unwrap_or(ZERO);
    checka(r, std::array::from_fn(minus), "Recip");
    checka(Monmul(Ones(), 3), std::array::from_fn(|i| if i < 3 { ZERO } else { ONE }), "Monmul");
    let m = Mon::<T>(itor(5), 2);
    let terms = std::iter::from_fn(|| get(&m)).take(4).collect::<Vec<_>>();
    assert_eq!(terms, [ZERO, ZERO, itor(5), FINIS], "Mon");
    // (1 + x)^3, which ends
    let b = Binom::<T>(itor(3));
    let terms = std::iter::from_fn(|| get(&b)).take(5).collect::<Vec<_>>();
    assert_eq!(terms, [1, 3, 3, 1].map(itor).into_iter().chain([FINIS]).collect::<Vec<_>>(), "Binom");
    // 1 / (1 - x) at 2x: 1 2 4 8, by the general and by the special substitution
    let powers = || std::array::from_fn(|i| itor(1 << i));
    checka(Subst(Ones(), Cmul(itor(2), Monmul(Ones(), 1))), substituted(), "Subst");
    checka(MonSubst(Ones(), itor(2), 1), powers(), "MonSubst");
    // 1 + 1/2 + 1/4 + ..
    assert_eq!(eval(i2tor(1, 2), &Ones(), 5), i2tor(31, 16));
    // A product of series that end ends.
    let p = Mul(Binom::<T>(ONE), Binom::<T>(ONE));
    let terms = std::iter::from_fn(|| get(&p)).take_while(|&u| !end(u)).take(N).collect::<Vec<_>>();
    assert_eq!(terms, [1, 2, 1].map(itor), "Mul of polynomials");
}

/// 1 / (1 - V) with V = 2x / (1 - x): (1 - x) / (1 - 3x), which is 1 2 6 18 54 ..
fn substituted() -> [Rat; N] {
    std::array::from_fn(|i| if i == 0 { ONE } else { itor(2 * 3_i64.pow(i as u32 - 1)) })
}
