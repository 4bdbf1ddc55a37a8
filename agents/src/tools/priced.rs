//! A price on a tool that knows none of its own, or another one: `[tools.NAME] usd_per_call`. What a call
//! costs is reserved before it is made and charged when it was.

use async_trait::async_trait;
use std::sync::Arc;

use shared::money::{Usage, Usd};
use shared::run::{Probe, Report};

use super::{Tool, ToolCall, ToolInfo};

/// A tool with this price in the place of its own.
pub(super) struct Priced {
    inner: Arc<dyn Tool>,
    info: ToolInfo,
}

impl Priced {
    /// The tool, at this price.
    pub(super) fn new(inner: Arc<dyn Tool>, price: Usd) -> Self {
        let info = ToolInfo {
            price,
            ..inner.info().clone()
        };
        Self { inner, info }
    }
}

#[async_trait]
impl Tool for Priced {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        let mut report = self.inner.call(call).await;
        report.usage = charged(&report, self.info.price);
        report
    }

    async fn probe(&self, call: ToolCall<'_>) -> Probe {
        self.inner.probe(call).await
    }
}

/// What a call is charged: nothing where it certainly did not happen. Where nobody knows what it used, it
/// stays so, and the reservation is charged.
fn charged(report: &Report, price: Usd) -> Option<Usage> {
    let happened = match &report.result {
        Ok(_) => true,
        Err(failure) => failure.may_have_happened,
    };
    let usage = report.usage?;
    let usd = if happened { price } else { Usd::ZERO };
    Some(Usage { usd, ..usage })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use shared::run::{Failure, FailureKind};

    use super::*;

    #[test]
    fn what_happened_is_charged_and_what_did_not_is_not() {
        let price = Usd::from_dollars(0.01);
        let failure = Failure::new(FailureKind::Transient, "x");
        let ok = Report {
            result: Ok(Value::Null),
            ..Report::failed(failure.clone())
        };
        let lost = Report {
            usage: None,
            ..Report::failed(failure.clone().may_have_happened())
        };
        let usd = |report: &Report| charged(report, price).map(|usage| usage.usd);
        assert_eq!(usd(&ok), Some(price));
        assert_eq!(usd(&Report::failed(failure.clone())), Some(Usd::ZERO));
        assert_eq!(
            usd(&Report::failed(failure.may_have_happened())),
            Some(price)
        );
        assert_eq!(usd(&lost), None);
    }
}
