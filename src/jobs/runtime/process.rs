//! Jobs as processes of this machine: each in a folder of its own, with nothing of our environment, and killed with all it has started. They are
//! not isolated: a job may read what this user may. For machines whose owner writes all jobs.

use std::path::PathBuf;
use std::pin::Pin;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::wire::{FRAME_BYTES_MAX, Said};
use super::{Language, Runtime, task};
use crate::jobs::book::Claimed;
use crate::lifecycle::child::{Launcher, Program};

/// Runs jobs as processes.
pub(crate) struct Processes {
    launcher: Launcher,
    flux: PathBuf,
    /// Where programs are looked for.
    path: String,
}

impl Processes {
    /// By a file that is flux, which is the shim and its supervisor.
    pub(crate) fn new(flux: impl Into<PathBuf>) -> Processes {
        let flux = flux.into();
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into());
        Processes { launcher: Launcher::new(&flux), flux, path }
    }

    async fn carry(&self, job: &Claimed, said: &mpsc::Sender<Said>) -> Result<(), String> {
        let language = Language::named(&job.spec.runtime).ok_or_else(|| format!("`{}` is not run here", job.spec.runtime))?;
        let folder = TempDir::with_prefix("flux-job-").map_err(|error| format!("make a folder for the job: {error}"))?;
        let mut program = Program::new(format!("job {}", job.id), &self.flux);
        program.args = vec!["shim".into()];
        program.frame_bytes_max = FRAME_BYTES_MAX;
        let mut shim = self.launcher.launch(&program).map_err(|error| format!("start the job's shim: {error}"))?;
        let work = folder.path().join("app");
        let task = task(job, language, &work.to_string_lossy(), &self.path);
        shim.send(&task.encode()).await.map_err(|error| format!("tell the job's shim: {error}"))?;
        while let Some(frame) = shim.receive().await.map_err(|error| format!("hear the job's shim: {error}"))? {
            let heard = Said::decode(&frame).ok_or("the job's shim says what nobody understands")?;
            let is_end = matches!(heard, Said::Ended { .. } | Said::Failed(_));
            // Whoever listened is gone: nobody wants to know.
            if said.send(heard).await.is_err() || is_end {
                return Ok(());
            }
        }
        Err(format!("the job's shim {}", shim.ended().await))
    }
}

impl Runtime for Processes {
    fn languages(&self) -> Vec<Language> {
        let is_there =
            |language: &Language| std::env::split_paths(&self.path).any(|folder| folder.join(language.program()).is_file());
        Language::ALL.into_iter().filter(is_there).collect()
    }

    fn run<'a>(&'a self, job: &'a Claimed, said: mpsc::Sender<Said>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            if let Err(why) = self.carry(job, &said).await {
                // Whoever listened is gone.
                let _ = said.send(Said::Failed(why)).await;
            }
        })
    }
}
