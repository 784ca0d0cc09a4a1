#include "b2bua/control/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct letter {
    kg_mailbox_fn *fn;
    void *arg;
};

/* A ring of letters. The eventfd is readable while there may be some. */
struct kg_mailbox {
    pthread_mutex_t lock; /* of first and count; held for a few instructions only */
    int fd;
    unsigned capacity, first, count;
    struct letter letter[];
};

struct kg_mailbox *kg_mailbox_new(unsigned capacity)
{
    struct kg_mailbox *mailbox = calloc(1, sizeof *mailbox + capacity * sizeof mailbox->letter[0]);

    if (mailbox == NULL)
        return NULL;
    mailbox->capacity = capacity;
    mailbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->fd < 0) {
        free(mailbox);
        return NULL;
    }
    pthread_mutex_init(&mailbox->lock, NULL);
    return mailbox;
}

void kg_mailbox_free(struct kg_mailbox *mailbox)
{
    if (mailbox == NULL)
        return;
    close(mailbox->fd);
    pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
}

int kg_mailbox_post(struct kg_mailbox *mailbox, kg_mailbox_fn *fn, void *arg)
{
    const uint64_t one = 1;
    int error = 0;

    pthread_mutex_lock(&mailbox->lock);
    if (mailbox->count == mailbox->capacity) {
        error = EAGAIN;
    } else {
        mailbox->letter[(mailbox->first + mailbox->count) % mailbox->capacity] = (struct letter){fn, arg};
        mailbox->count++;
    }
    pthread_mutex_unlock(&mailbox->lock);
    if (error == 0 && write(mailbox->fd, &one, sizeof one) < 0) {
        /* only when the counter is full, and then the owner wakes up all the same */
    }
    return error;
}

int kg_mailbox_fd(const struct kg_mailbox *mailbox)
{
    return mailbox->fd;
}

static int take(struct kg_mailbox *mailbox, struct letter *out)
{
    int error = EAGAIN;

    pthread_mutex_lock(&mailbox->lock);
    if (mailbox->count > 0) {
        *out = mailbox->letter[mailbox->first];
        mailbox->first = (mailbox->first + 1) % mailbox->capacity;
        mailbox->count--;
        error = 0;
    }
    pthread_mutex_unlock(&mailbox->lock);
    return error;
}

void kg_mailbox_run(struct kg_mailbox *mailbox)
{
    struct letter letter;
    uint64_t ignored;

    /* The eventfd first: what is posted from here on makes it readable again. */
    if (read(mailbox->fd, &ignored, sizeof ignored) < 0) {
        /* nothing posted; take() will find nothing */
    }
    while (take(mailbox, &letter) == 0)
        letter.fn(letter.arg);
}
