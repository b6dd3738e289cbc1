use csp::go;

async fn g() {}

fn main() {
    go!(g().await);
}
