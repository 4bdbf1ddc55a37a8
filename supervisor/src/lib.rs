//! The supervisor: one binary in which tasks come in, are routed to agents, and are answered.
//!
//! ```text
//!  chats ─► inbound ─► reception ─┐
//!  HTTP, hooks ───────────────────┼─► intake ─► run: route → plan → delegate → close ─► answer
//!  CLI ───────────────────────────┘     │             │   ▲                              │
//!                                       ▼             ▼   │ children: one run for each    ▼
//!                                    journal ◄─── engine ─┴─ask─► agents' actors    outbox ─► courier
//! ```
//! Doors differ only before [`intake`] and after the outbox. Everything between is driven by the
//! [`engine`] and written against `RunCtx`: [`supervise`] is the task's own run, [`route`] and [`plan`]
//! are its pure parts. [`app`] wires it all; [`channels`] are the doors, [`people`] who may use them;
//! [`asks`] is what people are asked while a task waits; [`budget`] is limits and usage as people see
//! them, the [`alarm`] tells admins of limits that are nearly reached, [`unusual`]
//! of runs that use far more than usual; [`view`] is what people see of a
//! task, [`wire`] what is said over HTTP, the [`desk`] where tasks are looked at, cancelled and answered.
//! [`cli`] is what the binary does.

pub mod alarm;
pub mod app;
pub mod asks;
pub mod auth;
pub mod budget;
pub mod channels;
pub mod cli;
pub mod desk;
pub mod doctor;
pub mod engine;
pub mod equip;
pub mod feedback;
pub mod files;
pub mod follow;
pub mod halt;
pub mod instance;
pub mod intake;
pub mod people;
pub mod permits;
pub mod plan;
pub mod program;
pub mod retention;
pub mod route;
pub mod session;
pub mod storage;
pub mod supervise;
pub mod supervisor;
pub mod telemetry;
pub mod transcript;
pub mod unusual;
pub mod view;
pub mod wire;
