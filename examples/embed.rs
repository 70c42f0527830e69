//! flux within a program: a durable keyspace in a folder, with the typed commands of the `redis` crate and no socket.
//!
//! Run it twice and see the counter go on: `cargo run --example embed`

#![allow(clippy::disallowed_methods, reason = "a program that has flux within it starts its own threads")]

use redis::TypedCommands;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flux = flux::Flux::open("./state-of-the-example")?;
    let mut store = flux.blocking();

    let runs = store.incr("runs", 1)?;
    store.hset("user:1", "name", "Ada")?;
    store.lpush("jobs", "compile")?;
    println!("run {runs}: user 1 is {:?}, {} jobs wait", store.hget("user:1", "name")?, store.llen("jobs")?);

    // Another handle is another client, for another thread say, with a database and transactions of its own.
    let mut other = flux.blocking();
    std::thread::spawn(move || other.rpush("jobs", "test")).join().expect("the thread does not panic")?;

    flux.close()?;
    Ok(())
}
