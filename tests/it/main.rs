//! One integration binary, a module for each behaviour.

mod actors;
mod again;
mod agent_loop;
mod callbacks;
mod cancel;
mod crash;
mod doubt;
mod engine;
mod files;
mod first_answer;
mod journals;
mod lease;
mod limits;
mod mail;
mod operations;
mod poison;
mod replay;
mod replicas;
mod retry;
mod routing;
mod slack;
mod store;
mod telegram;
mod telegram_webhook;
mod tenancy;
mod transcripts;
