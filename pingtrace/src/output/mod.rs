//! Outputs: results and messages to stdout, stderr, rotating files and pictures.

// Who writes.
pub mod companion; // rows of a companion
pub mod run; // records and statistics of a run, on a thread of its own

// What, and where.
pub mod destinations; // all outputs together
pub mod entry; // what is written, in each form

// One file an output.
pub mod events; // the system's log
pub mod live; // the view on the terminal, as the run goes
pub mod logs; // which log files there are, and what is in each
pub mod metrics; // for Prometheus: served, and in a file
pub mod picture; // its name, and whether it can be written
pub mod printer; // results to stdout or stderr, on a thread of their own
pub mod save; // a run in one file, its probes in short
pub mod story; // messages to stderr, on a thread of its own
pub mod trace; // for Perfetto

// The ground.
pub mod files; // how a named file is opened
pub mod names; // namespaces and devices, for entries
pub mod rotate; // a file that rolls over, and loses no line silently
pub mod screen; // stdout and stderr as they are, and the progress line
pub mod stream; // lines that may be refused, counted
