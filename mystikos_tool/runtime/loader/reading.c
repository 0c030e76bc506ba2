#include "reading.h"

#define CHUNK (1ull << 20)         /* bytes read at once, and then told */
#define THREADED_SIZE (4ull << 20) /* sections of fewer bytes in all are not worth a thread */

/* Of what was read, or of all when `result` says that no more will be. */
static void tell(struct myst_reading *reading, uint64_t complete, int result)
{
    pthread_mutex_lock(&reading->lock);
    reading->complete = complete;
    reading->result = result;
    pthread_cond_signal(&reading->progress);
    pthread_mutex_unlock(&reading->lock);
}

static int read_run(void *context, const struct myst_run *run)
{
    struct myst_reading *reading = context;
    if (run->content != MYST_CONTENT_SECTION)
        return 0;
    for (uint64_t at = 0; at < run->size;)
    {
        const uint64_t left = run->size - at, size = left < CHUNK ? left : CHUNK;
        uint8_t *to = reading->memory->base + run->offset + at;
        if (myst_package_read(reading->layout->package, run->section, at, to, size, &reading->error) != 0)
            return -1;
        at += size;
        tell(reading, run->offset + (at < run->size ? at : run->pages * MYST_PAGE), 0);
    }
    return 0;
}

static void *read_all(void *context)
{
    struct myst_reading *reading = context;
    const int result = myst_layout_walk(reading->layout, read_run, reading);
    tell(reading, UINT64_MAX, result);
    return NULL;
}

static uint64_t size_of_sections(const struct myst_layout *layout)
{
    return layout->regions[MYST_REGION_ROOTFS].file_size + layout->regions[MYST_REGION_PUBKEYS].file_size +
           layout->regions[MYST_REGION_ROOTHASHES].file_size;
}

void myst_reading_start(
    struct myst_reading *reading, const struct myst_layout *layout, const struct myst_memory *memory)
{
    *reading = (struct myst_reading){
        .layout = layout,
        .memory = memory,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .progress = PTHREAD_COND_INITIALIZER,
    };
    reading->has_thread = size_of_sections(layout) >= THREADED_SIZE &&
                          pthread_create(&reading->thread, NULL, read_all, reading) == 0;
    if (!reading->has_thread)
        (void)read_all(reading);
}

uint64_t myst_reading_wait(struct myst_reading *reading, uint64_t offset)
{
    pthread_mutex_lock(&reading->lock);
    while (reading->complete < offset)
        pthread_cond_wait(&reading->progress, &reading->lock);
    const uint64_t complete = reading->result == 0 ? reading->complete : 0;
    pthread_mutex_unlock(&reading->lock);
    return complete;
}

int myst_reading_finish(struct myst_reading *reading, struct myst_error *error)
{
    if (reading->has_thread)
        pthread_join(reading->thread, NULL);
    if (reading->result != 0)
        *error = reading->error;
    return reading->result;
}
