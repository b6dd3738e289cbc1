// Every function-like macro once, in the ways it can be named. Included where `library` is the library.

use library::{go, select, wait_group};

fn add(a: i32, b: i32) -> i32 {
    a + b
}

#[test]
fn go_works_by_name_and_by_path() {
    assert_eq!(go!(add(1, 2)).join().unwrap(), 3);
    assert_eq!(library::go!(name = "named", add(1, 2)).join().unwrap(), 3);
    assert_eq!(self::library::go! { let n = 1; n + 1 }.join().unwrap(), 2);
}

#[test]
fn select_works_by_name_and_by_path() {
    let (tx, rx) = library::bounded(1);
    select! {
        tx <- 1 => {}
        default => unreachable!(),
    }
    assert_eq!(library::select! { Ok(n) = <-rx => n, else => 0 }, 1);
    library::select_biased! {
        recv(rx) -> _ => unreachable!(),
        default(std::time::Duration::ZERO) => {}
    }
}

#[test]
fn wait_group_works_by_name_and_by_path() {
    let mut cells = [1, 2];
    wait_group! {
        for cell in &mut cells {
            go!(|| ()).join().unwrap();
            library::go!(move || *cell += 1);
        }
    }
    let sum = library::wait_group! {
        go!(name = "named", add(cells[0], cells[1])).join().unwrap()
    };
    assert_eq!(sum, 5);
}
