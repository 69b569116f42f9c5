//! The agent-server API of a workspace, through the service.

mod bodies;
mod ending;
mod passage;
mod scene;
mod sockets;
mod starts;
mod strangers;
