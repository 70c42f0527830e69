//! All tools there are, as one look found them, and the pages in which hosts get them: there may be thousands, with megabytes of schemas.

use std::sync::{Arc, Weak};
use std::time::Duration;

use blake3::{Hash, Hasher};
use parking_lot::Mutex;
use rmcp::model::Tool;
use tokio::time::sleep;

use super::tools::{self, Entry};
use crate::lifecycle;

/// Bytes of tools in a page, of which there is one at least. Some hosts read no second page: so most lists have none.
const PAGE_BYTES: usize = 1 << 20;
/// For how long tools are kept of which someone got a page that is not the last: so that the others need not be looked for one by one.
const KEPT: Duration = Duration::from_secs(10);

/// All tools there are. Whenever they change all hosts want them.
pub(crate) struct Found {
    /// In the order of their capabilities.
    pub tools: Vec<Entry>,
    /// Of each as JSON.
    bytes: Vec<usize>,
    /// Tells them from others: as many hosts look as there are sessions, so none keeps a list.
    pub digest: Hash,
}

impl Found {
    /// The tools of these capabilities (JSON texts).
    pub(crate) fn of(capabilities: &[String]) -> Found {
        let tools = tools::tools(capabilities);
        let mut hasher = Hasher::new();
        let mut bytes = Vec::with_capacity(tools.len());
        for entry in &tools {
            let text = serde_json::to_vec(&entry.tool).unwrap_or_default();
            hasher.update(&(text.len() as u64).to_le_bytes()).update(&text);
            bytes.push(text.len());
        }
        Found { tools, bytes, digest: hasher.finalize() }
    }

    /// The page after a cursor, or the first one, and the cursor of the next, if there is one. A cursor is the capability of the last tool that
    /// its host has: so it stays good when tools come and go.
    pub(crate) fn page(&self, cursor: Option<&str>) -> (Vec<Tool>, Option<String>) {
        let start = cursor.map_or(0, |last| self.tools.partition_point(|entry| *entry.capability <= *last));
        let mut bytes = 0;
        let fits = |size: &&usize| {
            bytes += **size;
            bytes <= PAGE_BYTES
        };
        let count = self.bytes[start..].iter().take_while(fits).count().max(1);
        let end = self.tools.len().min(start + count);
        let page = &self.tools[start..end];
        let next = page.last().filter(|_| end < self.tools.len()).map(|last| last.capability.clone());
        (page.iter().map(|entry| entry.tool.clone()).collect(), next)
    }
}

/// What is kept for those who will ask for the next page.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<Arc<Found>>>>);

impl Kept {
    /// What is kept now.
    pub(crate) fn get(&self) -> Option<Arc<Found>> {
        self.0.lock().clone()
    }

    /// Keeps it for a while. Needs a runtime.
    pub(crate) fn keep(&self, found: &Arc<Found>) {
        let before = self.0.lock().replace(Arc::clone(found));
        if before.is_some_and(|before| Arc::ptr_eq(&before, found)) {
            return;
        }
        let (kept, found) = (self.clone(), Arc::downgrade(found));
        lifecycle::of_connection(async move {
            sleep(KEPT).await;
            kept.let_go(&found);
        });
    }

    /// Keeps it no more, unless others are kept by now.
    fn let_go(&self, found: &Weak<Found>) {
        self.0.lock().take_if(|kept| Arc::as_ptr(kept) == found.as_ptr());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(names: &[&str], description_bytes: usize) -> Arc<Found> {
        let text = |name: &&str| json!({ "name": name, "schema": {}, "description": "x".repeat(description_bytes) }).to_string();
        Arc::new(Found::of(&names.iter().map(text).collect::<Vec<_>>()))
    }

    fn pages(found: &Found) -> Vec<Vec<String>> {
        let (mut pages, mut cursor) = (Vec::new(), None);
        loop {
            let (tools, next) = found.page(cursor.as_deref());
            pages.push(tools.iter().map(|tool| tool.name.to_string()).collect());
            cursor = next;
            if cursor.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn pages_are_bounded_and_hold_every_tool_once() {
        assert_eq!(pages(&found(&["a", "b", "c"], 10)), [["a", "b", "c"]]);
        assert_eq!(pages(&found(&["a", "b", "c", "d", "e"], PAGE_BYTES * 2 / 5)), [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
        assert_eq!(pages(&found(&["a", "b"], PAGE_BYTES * 2)), [["a"], ["b"]], "one that is too long has a page for itself");
        assert_eq!(pages(&found(&[], 0)), [Vec::<String>::new()]);
    }

    #[test]
    fn a_cursor_is_good_when_its_tool_is_gone_and_when_nothing_follows() {
        let found = found(&["a", "c"], 1);
        assert_eq!(found.page(Some("b")).0[0].name, "c");
        assert_eq!(found.page(Some("c")), (Vec::new(), None));
    }

    #[tokio::test]
    async fn only_what_was_kept_last_is_kept_and_let_go() {
        let (kept, first, second) = (Kept::default(), found(&["a"], 1), found(&["b"], 1));
        for found in [&first, &first, &second] {
            kept.keep(found);
        }
        assert_eq!(Arc::strong_count(&first), 1);
        kept.let_go(&Arc::downgrade(&first));
        assert_eq!(kept.get().map(|found| found.digest), Some(second.digest), "it is not what was kept first");
        kept.let_go(&Arc::downgrade(&second));
        assert!(kept.get().is_none());
    }
}
