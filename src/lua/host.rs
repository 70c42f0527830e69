//! What a script reaches of the world.

/// Who runs a script. All of it is called on the thread, and the stack, that runs the script.
pub trait Host {
    /// Runs a command; its reply is appended to `reply` in RESP of `protocol`.
    fn call(&mut self, args: &[&[u8]], protocol: u8, reply: &mut Vec<u8>);

    /// After an `Alarm` was rung: whether the script may go on. It may take its time.
    fn pause(&mut self) -> Verdict;

    /// `redis.log`: 0 is for debugging, 3 a warning.
    fn log(&mut self, level: u8, text: &[u8]);

    /// Whether the client may run this; None where there is no such command.
    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    GoOn,
    /// Ends the script with this error.
    Stop(&'static str),
}
