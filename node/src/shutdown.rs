//! When a program is to end: SIGINT, SIGTERM, or its parent's end.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long a program whose parent is gone may take to end; then it is ended.
const GRACE: Duration = Duration::from_secs(15);

/// Becomes true once and stays so. Clones see the same.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Watches signals, and standard input where the program ends with its parent.
    ///
    /// # Errors
    /// When the signals cannot be watched.
    pub fn watch(until_stdin_closes: bool) -> io::Result<Self> {
        let (begun, shutdown) = watch::channel(false);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let on_signal = begun.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            on_signal.send_replace(true);
        });
        if until_stdin_closes {
            // A thread, because a task that reads standard input would hold up the runtime's end.
            thread::Builder::new().name("parent".into()).spawn(move || {
                wait_for_end(io::stdin().lock());
                begun.send_replace(true);
                thread::sleep(GRACE);
                std::process::exit(1);
            })?;
        }
        Ok(Self(shutdown))
    }

    /// Returns when the program is to end.
    pub async fn begun(&mut self) {
        // The sender is gone only when a signal has been seen.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}

fn wait_for_end(mut input: impl Read) {
    let mut ignored = [0; 64];
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            _ => {}
        }
    }
}
