/* A bounded mailbox into a thread's loop: any thread posts a function, the owner runs it. */
#ifndef KG_MAILBOX_H
#define KG_MAILBOX_H

struct kg_mailbox;
typedef void kg_mailbox_fn(void *arg);

struct kg_mailbox *kg_mailbox_new(unsigned capacity);
void kg_mailbox_free(struct kg_mailbox *mailbox);
/* Any thread. 0, or EAGAIN when full: the poster refuses its own work. */
int kg_mailbox_post(struct kg_mailbox *mailbox, kg_mailbox_fn *fn, void *arg);
/* The owner polls this eventfd for reading and then runs everything posted. */
int kg_mailbox_fd(const struct kg_mailbox *mailbox);
void kg_mailbox_run(struct kg_mailbox *mailbox);

#endif
