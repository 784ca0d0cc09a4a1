/* b2bua/control/mailbox: order, bounds, wake-up, and posting from other threads. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "b2bua/control/mailbox.h"

static int seen[64], seen_count;

static void note(void *arg)
{
    seen[seen_count++] = *(int *)arg;
}

static bool readable(struct kg_mailbox *mailbox)
{
    struct pollfd fd = {.fd = kg_mailbox_fd(mailbox), .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

static void in_order(void **state)
{
    struct kg_mailbox *mailbox = kg_mailbox_new(4);
    int value[] = {1, 2, 3};

    (void)state;
    seen_count = 0;
    assert_false(readable(mailbox));
    for (int i = 0; i < 3; i++)
        assert_int_equal(kg_mailbox_post(mailbox, note, &value[i]), 0);
    assert_true(readable(mailbox));
    assert_int_equal(seen_count, 0); /* not before the owner runs it */
    kg_mailbox_run(mailbox);
    assert_int_equal(seen_count, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(seen[i], i + 1);
    assert_false(readable(mailbox));
    kg_mailbox_run(mailbox); /* nothing to do */
    assert_int_equal(seen_count, 3);
    kg_mailbox_free(mailbox);
}

static void bounded(void **state)
{
    struct kg_mailbox *mailbox = kg_mailbox_new(2);
    int value[] = {1, 2, 3, 4};

    (void)state;
    seen_count = 0;
    assert_int_equal(kg_mailbox_post(mailbox, note, &value[0]), 0);
    assert_int_equal(kg_mailbox_post(mailbox, note, &value[1]), 0);
    assert_int_equal(kg_mailbox_post(mailbox, note, &value[2]), EAGAIN);
    kg_mailbox_run(mailbox);
    assert_int_equal(seen_count, 2);          /* the refused one is its poster's business */
    for (int round = 0; round < 5; round++) { /* round the ring's corner */
        assert_int_equal(kg_mailbox_post(mailbox, note, &value[3]), 0);
        kg_mailbox_run(mailbox);
    }
    assert_int_equal(seen_count, 7);
    assert_int_equal(seen[6], 4);
    kg_mailbox_free(mailbox);
}

struct again {
    struct kg_mailbox *mailbox;
    int value;
};

static void post_again(void *arg)
{
    struct again *again = arg;

    assert_int_equal(kg_mailbox_post(again->mailbox, note, &again->value), 0);
}

static void posts_from_inside(void **state)
{
    struct again again = {kg_mailbox_new(1), 9};

    (void)state;
    seen_count = 0;
    assert_int_equal(kg_mailbox_post(again.mailbox, post_again, &again), 0);
    kg_mailbox_run(again.mailbox);
    if (seen_count == 0) {
        assert_true(readable(again.mailbox));
        kg_mailbox_run(again.mailbox);
    }
    assert_int_equal(seen_count, 1);
    kg_mailbox_free(again.mailbox);
}

#define THREADS 4
#define LETTERS 20000

static unsigned delivered[THREADS];

struct poster {
    struct kg_mailbox *mailbox;
    unsigned *counter;
    unsigned refused;
};

static void count(void *arg)
{
    ++*(unsigned *)arg;
}

static void *post_many(void *arg)
{
    struct poster *poster = arg;

    for (int i = 0; i < LETTERS; i++)
        if (kg_mailbox_post(poster->mailbox, count, poster->counter) != 0)
            poster->refused++;
    return NULL;
}

static void many_threads(void **state)
{
    struct kg_mailbox *mailbox = kg_mailbox_new(256);
    struct poster poster[THREADS];
    pthread_t thread[THREADS];
    struct pollfd fd = {.fd = kg_mailbox_fd(mailbox), .events = POLLIN};

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        poster[i] = (struct poster){mailbox, &delivered[i], 0};
        assert_int_equal(pthread_create(&thread[i], NULL, post_many, &poster[i]), 0);
    }
    while (poll(&fd, 1, 200) > 0) /* ends when all has been posted and read */
        kg_mailbox_run(mailbox);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    kg_mailbox_run(mailbox);
    for (int i = 0; i < THREADS; i++) /* each letter was delivered once, or refused */
        assert_int_equal(delivered[i] + poster[i].refused, LETTERS);
    kg_mailbox_free(mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),
        cmocka_unit_test(bounded),
        cmocka_unit_test(posts_from_inside),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
