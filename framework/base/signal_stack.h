/// Stacks of their own for signal handlers that others install (MPI's for crashes, a profiler's for its clock).
///
/// A handler writes its frame below the stack pointer of the thread that it interrupts. oneDNN's generated f32 products
/// keep other things than a stack in that register: their frame would lie in the middle of the heap (oneDNN's issue
/// 4845). On a stack of its own it does no harm.
#pragma once

namespace lexring {

/// The calling thread's handlers run on a stack of their own from now on; once per thread is enough, more cost nothing.
void use_signal_stack();
/// The same for every thread that parallel loops of the calling thread use. Starts them.
void use_signal_stacks_in_loops();

/// Handlers that exist by now, whoever installed them, use the stack of the thread that they interrupt where it has
/// one.
void move_handlers_to_signal_stacks();

}  // namespace lexring
