//! The same tasks on a keyspace within this program, on a server, or on a cluster: whatever the address says.
//!
//!     cargo run --example store
//!     cargo run --example store redis://127.0.0.1:6379
//!     cargo run --example store redis+cluster://127.0.0.1:7000,127.0.0.1:7001

use flux::Flux;
use flux::store::{Heard, Store, Topics};
use redis::{AsyncTypedCommands, cmd};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flux = Flux::in_memory();
    let mut store = match std::env::args().nth(1) {
        Some(address) => Store::open(&address)?,
        None => flux.store(),
    };
    let mut news = store.listen(Topics::channels(["example:news"])).await?;

    // It waits for a job, and holds no thread meanwhile.
    let mut worker = store.clone();
    let mut take = cmd("BLPOP");
    take.arg("example:jobs").arg(5);
    let (job, _) = tokio::try_join!(take.query_async::<Vec<String>>(&mut worker), store.rpush("example:jobs", "compile"))?;
    println!("a worker took {job:?}");

    // Several keys together, if nobody changes them meanwhile: they have one hash tag.
    let change = async |line: &mut flux::store::Line, pipeline: &mut redis::Pipeline| {
        let runs = line.get("{example}:runs").await?.and_then(|runs| runs.parse::<u32>().ok()).unwrap_or(0);
        pipeline.set("{example}:runs", runs + 1).ignore().set("{example}:last", "now").ignore().get("{example}:runs");
        Ok(())
    };
    let runs: Option<(u32,)> = store.transaction(&["{example}:runs"], change).await?;
    println!("run {}", runs.map_or(0, |(runs,)| runs));

    store.publish("example:news", "done").await?;
    match news.next().await {
        Some(Heard::Item(message)) => println!("heard {}", String::from_utf8_lossy(&message.payload)),
        Some(Heard::Lost(count)) => println!("{count:?} messages are missing here"),
        None => println!("the server has ended"),
    }
    Ok(())
}
