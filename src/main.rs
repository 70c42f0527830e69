//! Runs flux.

use std::path::PathBuf;
use std::sync::Arc;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(2);
    let config = Arc::new(flux::config::Config::default());
    let mut data = None;
    while let Some(flag) = args.next() {
        let value = args.next().unwrap_or_default();
        if flag == "--data" {
            data = Some(PathBuf::from(value))
        } else {
            config.choose(flag.trim_start_matches("--"), &value, flux::config::Source::Flag)?
        }
    }
    let node = flux::node::Node::start(config, data.as_deref())?;
    println!("listening on {:?}", node.addresses());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(tokio::signal::ctrl_c())?;
    node.stop()?;
    Ok(())
}
