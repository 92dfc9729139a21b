//! The gateway at its boundary: HTTP in, prompts to the ring, tokens back, HTTP out.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod load;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod streams;
