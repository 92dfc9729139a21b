//! The vocabulary that `INFERENCE` needs: read from a file of the plan when the first prompt comes, since most nodes see
//! none and it takes tens of megabytes.

use std::sync::Arc;

use shard_engine::gguf::Gguf;
use shard_wire::manifest;
use tokio::sync::{Mutex, watch};

use crate::library::{Library, model_name};
use crate::model::{About, Model};

/// The vocabulary of the plan, once somebody asks.
pub struct Models {
    library: watch::Receiver<Option<Arc<Library>>>,
    context: Option<u32>,
    /// With the name of its plan.
    loaded: Mutex<Option<(String, Arc<Model>)>>,
}

impl Models {
    /// Of the plan on the channel; `context` is what the user limits sessions to.
    pub fn new(library: watch::Receiver<Option<Arc<Library>>>, context: Option<u32>) -> Self {
        Self { library, context, loaded: Mutex::default() }
    }

    /// The plan, once one is known.
    pub fn plan(&self) -> Option<String> {
        self.library.borrow().as_ref().map(|library| library.plan.clone())
    }

    /// The vocabulary, read now where it was not yet.
    ///
    /// # Errors
    /// In words, where no file of the plan is here or it cannot be used.
    pub async fn get(&self) -> Result<Arc<Model>, String> {
        let library = self.library.borrow().clone().ok_or("the node knows of no model yet")?;
        let mut loaded = self.loaded.lock().await;
        if let Some((_, model)) = loaded.as_ref().filter(|(plan, _)| *plan == library.plan) {
            return Ok(Arc::clone(model));
        }
        let (plan, context) = (library.plan.clone(), self.context);
        let read = tokio::task::spawn_blocking(move || read(&library, context)).await;
        let model = Arc::new(read.map_err(|error| error.to_string())??);
        *loaded = Some((plan, Arc::clone(&model)));
        Ok(model)
    }
}

/// Every shard file has the whole vocabulary; that of the model's context stands in any of them.
fn read(library: &Library, context: Option<u32>) -> Result<Model, String> {
    let files = library.manifest.files.iter().filter(|file| file.name != manifest::TOKENIZER);
    let here = files.map(|file| library.path(file)).find(|path| path.is_file());
    let path = here.ok_or("no shard file is here yet")?;
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let gguf = Gguf::open(&path).map_err(|error| wrong(error.to_string()))?;
    let about = About {
        plan: library.plan.clone(),
        name: model_name(&gguf),
        sha256: library.manifest.model_sha256.clone(),
        context_length: context,
    };
    Model::from_gguf(&gguf, about).map_err(|error| wrong(error.to_string()))
}
