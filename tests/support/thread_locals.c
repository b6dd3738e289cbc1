/* A library for tests/libraries.rs: a thread-local in the block that each thread has from the start, and one that a thread
   gets when it asks for it. Both begin as INITIAL. */
__thread long in_block __attribute__((tls_model("initial-exec"))) = INITIAL;
static __thread long on_demand __attribute__((tls_model("global-dynamic"))) = INITIAL;
long *the_one_in_block(void) { return &in_block; }
long *the_one_on_demand(void) { return &on_demand; }
