//! A model that keeps what it was sent.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use shared::model::{Call, Model, ModelReply, ModelRequest};
use shared::money::{Price, Usage};
use shared::run::Failure;

/// A model in front of another one.
pub struct Recorder {
    model: Arc<dyn Model>,
    requests: Mutex<Vec<ModelRequest>>,
}

impl Recorder {
    /// Passes everything on to `model`.
    pub fn new(model: Arc<dyn Model>) -> Self {
        Self {
            model,
            requests: Mutex::default(),
        }
    }

    /// What it was sent, oldest first.
    pub fn requests(&self) -> Vec<ModelRequest> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.clone()
    }
}

#[async_trait]
impl Model for Recorder {
    async fn ask(&self, call: Call<'_>) -> (Result<ModelReply, Failure>, Option<Usage>) {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call.request.clone());
        self.model.ask(call).await
    }

    fn price(&self) -> Price {
        self.model.price()
    }

    fn context_tokens(&self) -> u32 {
        self.model.context_tokens()
    }

    fn sees(&self) -> bool {
        self.model.sees()
    }

    fn describe(&self) -> String {
        self.model.describe()
    }
}
