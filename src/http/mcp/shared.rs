//! What many want to know at once and takes long to find out: one finds it out for all who asked before it began.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Mutex;

/// Answers to one question, which may change.
pub(crate) struct Shared<T> {
    /// Numbers moments: when someone asked, when someone began to find out.
    moments: AtomicU64,
    asking: AtomicUsize,
    /// When the last answer's finding began, and it. Kept only while others wait who may have it.
    last: Mutex<Option<(u64, T)>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Shared<T> {
        Shared { moments: AtomicU64::default(), asking: AtomicUsize::default(), last: Mutex::default() }
    }
}

/// One who asks, until this is dropped.
struct Asking<'a>(&'a AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl<T: Clone> Shared<T> {
    /// What `find` finds, or what another one found that began after this was asked.
    pub(crate) async fn ask<E>(&self, find: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        let asked = self.moments.fetch_add(1, SeqCst);
        self.asking.fetch_add(1, SeqCst);
        let asking = Asking(&self.asking);
        let mut last = self.last.lock().await;
        if last.as_ref().is_none_or(|(begun, _)| *begun < asked) {
            let begun = self.moments.fetch_add(1, SeqCst);
            *last = None;
            *last = Some((begun, find().await?));
        }
        drop(asking);
        let is_wanted = self.asking.load(SeqCst) > 0;
        let found = if is_wanted { last.clone() } else { last.take() };
        Ok(found.expect("it was found above, at the latest").1)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio::task::yield_now;

    use super::*;
    use crate::lifecycle;

    #[tokio::test]
    async fn one_finds_out_for_all_who_asked_before_it_began() {
        let (shared, found, go) = (Arc::new(Shared::default()), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (shared, found, go) = (Arc::clone(&shared), Arc::clone(&found), Arc::clone(&go));
            lifecycle::of_connection(async move {
                let find = async || {
                    go.acquire().await.expect("it is never closed").forget();
                    Ok::<_, Infallible>(found.fetch_add(1, SeqCst) + 1)
                };
                shared.ask(find).await
            })
        };
        let mut asked = Vec::new();
        for _ in 0..100 {
            asked.push(ask());
            // The first one begins; what it finds may be older than what the others ask for.
            yield_now().await;
        }
        go.add_permits(2);
        let mut answers = Vec::new();
        for asked in asked {
            answers.push(asked.await.unwrap().unwrap());
        }
        assert_eq!((answers[0], &answers[1..]), (1, &[2; 99][..]));
        assert!(shared.last.lock().await.is_none(), "it is kept for nobody");
        go.add_permits(1);
        assert_eq!(ask().await.unwrap(), Ok(3));
    }

    #[tokio::test]
    async fn who_gives_up_or_finds_nothing_leaves_it_to_the_next() {
        let shared = Shared::default();
        {
            let given_up = shared.ask(async || std::future::pending::<Result<u8, u8>>().await);
            let mut given_up = std::pin::pin!(given_up);
            assert!(futures_util::poll!(&mut given_up).is_pending());
        }
        assert_eq!(shared.ask(async || Err(1)).await, Err(1));
        assert_eq!(shared.ask(async || Ok::<_, u8>(2)).await, Ok(2));
    }
}
