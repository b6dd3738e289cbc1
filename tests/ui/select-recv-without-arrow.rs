use csp::select;

fn main() {
    let (tx, rx) = csp::bounded::<i32>(1);
    select! {
        recv(rx) v => drop(v),
    }
}
