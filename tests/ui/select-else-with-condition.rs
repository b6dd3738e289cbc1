use csp::select;

fn main() {
    let (tx, rx) = csp::bounded::<i32>(1);
    select! {
        Ok(_) = <-rx => {}
        else if tx.is_full() => {}
    }
}
