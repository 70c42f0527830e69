//! What a client's connection notes of its buffers and of what passes through them, for `INFO`: as differences to its worker's sums,
//! so that nobody ever walks ten thousand clients.

use std::sync::atomic::Ordering::Relaxed;

use crate::commands::session::Session;
use crate::commands::stats::Buffers;

impl Session {
    /// The connection begins or ends.
    pub(crate) fn carried(&mut self, begins: bool) {
        self.stats.carries(begins);
        self.stats.released(std::mem::take(&mut self.buffers));
    }

    /// Notes how much was sent by the client and is not run yet.
    pub(crate) fn note_input(&self, bytes: usize) {
        self.client.query_bytes.store(bytes as u64, Relaxed);
        self.stats.input_peak.note(self.instance.stats.second.load(Relaxed), bytes as u64);
    }

    /// Notes a look at what the client has sent, and the commands that were in it.
    pub(crate) fn turned(&self, commands: u64) {
        self.stats.turned(commands);
    }

    /// Notes how much waits for the client, and what its buffers take.
    pub(crate) fn note_output(&mut self, bytes: usize, buffers: Buffers) {
        self.client.output_bytes.store(bytes as u64, Relaxed);
        self.stats.output_peak.note(self.instance.stats.second.load(Relaxed), bytes as u64);
        self.resized(buffers);
    }

    fn resized(&mut self, now: Buffers) {
        if self.buffers != now {
            self.stats.resized(self.buffers, now);
            self.buffers = now;
        }
    }
}
