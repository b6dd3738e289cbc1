use csp::select;

fn main() {
    let (tx, rx) = csp::bounded::<i32>(1);
    select! {
        recv(rx) => {}
        v = rx => drop(v),
        default(1, 2) => {}
        a.b = <-rx => {}
    }
}
