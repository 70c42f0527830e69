//! Jobs: the same promises on a keyspace of this process, on flux and a redis-server over TCP, and on a cluster of three.

mod run;
mod scenarios;

use std::time::Duration;

use flux::jobs::book::Book;

use crate::store::backend::Backend;

/// Runs every scenario on a keyspace that it has for itself.
fn check_all(backend: Option<Backend>, parts: u8) {
    let Some(backend) = backend else { return };
    for (name, scenario) in scenarios::ALL {
        println!("{name}");
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            backend.empty().await;
            let book = Book::open(backend.store(), parts).await.unwrap();
            let done = tokio::time::timeout(Duration::from_secs(60), scenario(book));
            done.await.unwrap_or_else(|_| panic!("{name} hangs"));
        });
    }
}

#[test]
fn the_book_keeps_its_promises_within_this_process() {
    check_all(Some(Backend::within()), 1);
}

#[test]
fn the_book_keeps_its_promises_on_flux_over_tcp() {
    check_all(Some(Backend::flux()), 1);
}

#[test]
fn the_book_keeps_its_promises_on_a_redis_server() {
    check_all(Backend::redis(), 1);
}

#[test]
fn the_book_keeps_its_promises_on_a_cluster_of_three_masters() {
    check_all(Backend::cluster(), 16);
}
