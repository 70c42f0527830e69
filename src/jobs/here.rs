//! The jobs of this server's keyspace.

use std::sync::Arc;

use redis::RedisResult;

use crate::commands::instance::Instance;
use crate::jobs::book::Book;
use crate::store::Store;

/// Over how many parts jobs are spread, where this server is the first to say: it is one server.
const PARTS: u8 = 1;

/// The jobs of an instance's keyspace.
pub(crate) async fn book(instance: &Arc<Instance>) -> RedisResult<Book> {
    Book::open(Store::within(instance), PARTS).await
}
