//! Channels of async crates, all under the same three traits.

use std::convert::identity;
use std::future::Future;
use tokio::sync::mpsc;

/// Sends numbers; `false` says that the receiver has gone.
pub trait Sender: Send + 'static {
    fn send_number(&mut self, number: u64) -> impl Future<Output = bool> + Send;
}

/// Receives numbers until all senders have gone.
pub trait Receiver: Send + 'static {
    fn receive(&mut self) -> impl Future<Output = Option<u64>> + Send;
    fn try_receive(&mut self) -> Option<u64>;
}

/// A kind of channel.
pub trait Channel: 'static {
    type Sender: Sender;
    type Receiver: Receiver;

    /// A capacity of 0 is a rendezvous; channels that have none take 1.
    fn new(capacity: usize) -> (Self::Sender, Self::Receiver);

    /// The sum of `n` numbers from either.
    fn sum_of_two(a: Self::Receiver, b: Self::Receiver, n: u64) -> impl Future<Output = u64> + Send;
}

macro_rules! ends {
    ($sender:ty, $send:ident, $receiver:ty, $recv:ident, $try_recv:expr, $recv_result:expr) => {
        impl Sender for $sender {
            async fn send_number(&mut self, number: u64) -> bool {
                self.$send(number).await.is_ok()
            }
        }

        impl Receiver for $receiver {
            async fn receive(&mut self) -> Option<u64> {
                $recv_result(self.$recv().await)
            }

            fn try_receive(&mut self) -> Option<u64> {
                $try_recv(self.try_recv())
            }
        }
    };
}

macro_rules! channel {
    ($name:ident, $sender:ty, $receiver:ty, $new:expr, $recv:ident, $select:ident) => {
        pub struct $name;

        impl Channel for $name {
            type Sender = $sender;
            type Receiver = $receiver;

            fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
                $new(capacity)
            }

            async fn sum_of_two(a: Self::Receiver, b: Self::Receiver, n: u64) -> u64 {
                $select!(a, b, n, $recv)
            }
        }
    };
}

/// A select in the usual form, where a receive may be dropped half-way without loss.
macro_rules! drop_the_other {
    ($a:ident, $b:ident, $n:ident, $recv:ident) => {{
        // Tokio's want to be `mut`, the others not.
        #[allow(unused_mut)]
        let (mut a, mut b, mut sum) = ($a, $b, 0);
        for _ in 0..$n {
            sum += tokio::select! {
                number = a.$recv() => number.unwrap(),
                number = b.$recv() => number.unwrap(),
            };
        }
        sum
    }};
}

/// A select which keeps the receive that was not ready for the next round: kanal loses a message with it if it drops
/// it, and the others need not queue again.
macro_rules! keep_the_other {
    ($a:ident, $b:ident, $n:ident, $recv:ident) => {{
        let mut next_a = std::pin::pin!($a.$recv());
        let mut next_b = std::pin::pin!($b.$recv());
        let mut sum = 0;
        for _ in 0..$n {
            tokio::select! {
                number = &mut next_a => {
                    sum += number.unwrap();
                    next_a.set($a.$recv());
                }
                number = &mut next_b => {
                    sum += number.unwrap();
                    next_b.set($b.$recv());
                }
            }
        }
        sum
    }};
}

ends!(mpsc::Sender<u64>, send, mpsc::Receiver<u64>, recv, Result::ok, identity);
channel!(TokioMpsc, mpsc::Sender<u64>, mpsc::Receiver<u64>, |n: usize| mpsc::channel(n.max(1)), recv, drop_the_other);

ends!(kanal::AsyncSender<u64>, send, kanal::AsyncReceiver<u64>, recv, |r: Result<_, _>| r.ok().flatten(), Result::ok);
channel!(Kanal, kanal::AsyncSender<u64>, kanal::AsyncReceiver<u64>, kanal::bounded_async, recv, keep_the_other);

ends!(flume::Sender<u64>, send_async, flume::Receiver<u64>, recv_async, Result::ok, Result::ok);
channel!(Flume, flume::Sender<u64>, flume::Receiver<u64>, flume::bounded, recv_async, keep_the_other);

ends!(async_channel::Sender<u64>, send, async_channel::Receiver<u64>, recv, Result::ok, Result::ok);
channel!(
    AsyncChannel,
    async_channel::Sender<u64>,
    async_channel::Receiver<u64>,
    |n: usize| async_channel::bounded(n.max(1)),
    recv,
    keep_the_other
);

// Crossfire has a channel of its own for each number of senders and receivers.
type SpscSender = crossfire::AsyncTx<crossfire::spsc::Array<u64>>;
type SpscReceiver = crossfire::AsyncRx<crossfire::spsc::Array<u64>>;
type MpscSender = crossfire::MAsyncTx<crossfire::mpsc::Array<u64>>;
type MpscReceiver = crossfire::AsyncRx<crossfire::mpsc::Array<u64>>;
type MpmcSender = crossfire::MAsyncTx<crossfire::mpmc::Array<u64>>;
type MpmcReceiver = crossfire::MAsyncRx<crossfire::mpmc::Array<u64>>;

ends!(SpscSender, send, SpscReceiver, recv, Result::ok, Result::ok);
channel!(CrossfireSpsc, SpscSender, SpscReceiver, crossfire::spsc::bounded_async, recv, drop_the_other);
ends!(MpscSender, send, MpscReceiver, recv, Result::ok, Result::ok);
channel!(CrossfireMpsc, MpscSender, MpscReceiver, crossfire::mpsc::bounded_async, recv, drop_the_other);
ends!(MpmcSender, send, MpmcReceiver, recv, Result::ok, Result::ok);
channel!(CrossfireMpmc, MpmcSender, MpmcReceiver, crossfire::mpmc::bounded_async, recv, drop_the_other);
