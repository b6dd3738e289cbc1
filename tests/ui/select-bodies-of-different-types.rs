use csp::select;

fn main() {
    let (tx, rx) = csp::bounded::<i32>(1);
    select! {
        Ok(v) = <-rx => v,
        default => "none",
    }
}
