//! Doors: the ways by which tasks come in and answers go out. A door recognises who speaks, hands
//! the words to intake, and shows what the store holds; it decides nothing about the work itself.

pub mod http;
