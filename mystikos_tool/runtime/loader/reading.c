#include "reading.h"

#define CHUNK (1ull << 20)         /* bytes read at once */
#define THREADED_SIZE (4ull << 20) /* sections of fewer bytes in all are not worth a thread */

static const struct
{
    enum myst_region region;
    enum myst_package_section section;
} parts[] = {
    {MYST_REGION_ROOTFS, MYST_SECTION_ROOTFS},
    {MYST_REGION_PUBKEYS, MYST_SECTION_PUBKEYS},
    {MYST_REGION_ROOTHASHES, MYST_SECTION_ROOTHASHES},
};

#define PARTS MYST_COUNT(parts)

static const struct myst_region_place *place_of(const struct myst_reading *reading)
{
    return &reading->layout->regions[parts[reading->part].region];
}

static void skip_ended_parts(struct myst_reading *reading)
{
    for (; reading->part < PARTS && reading->at == place_of(reading)->file_size; reading->part++)
        reading->at = 0;
}

/* Everything before what is being read, or that nobody has begun to read. */
static uint64_t complete(const struct myst_reading *reading)
{
    uint64_t offset = reading->part < PARTS ? place_of(reading)->offset + reading->at : MYST_NOWHERE;
    for (int i = 0; i < MYST_READERS; i++)
        if (reading->busy[i] < offset)
            offset = reading->busy[i];
    return offset;
}

/* Reads the next chunk, under the lock but for the reading itself. Returns 0 when there is none. */
static int read_chunk(struct myst_reading *reading, enum myst_reader reader)
{
    if (reading->part == PARTS || reading->result != 0)
        return 0;
    const enum myst_package_section section = parts[reading->part].section;
    const uint64_t at = reading->at, left = place_of(reading)->file_size - at, size = left < CHUNK ? left : CHUNK;
    const uint64_t offset = place_of(reading)->offset + at;
    reading->busy[reader] = offset;
    reading->at += size;
    skip_ended_parts(reading);
    pthread_mutex_unlock(&reading->lock);

    struct myst_error error;
    const int result =
        myst_package_read(reading->layout->package, section, at, reading->memory->base + offset, size, &error);

    pthread_mutex_lock(&reading->lock);
    reading->busy[reader] = MYST_NOWHERE;
    if (result != 0)
    {
        reading->result = result;
        reading->error = error;
    }
    pthread_cond_signal(&reading->progress);
    return 1;
}

static void *read_all(void *context)
{
    struct myst_reading *reading = context;
    pthread_mutex_lock(&reading->lock);
    while (read_chunk(reading, MYST_READER_THREAD))
        continue;
    pthread_mutex_unlock(&reading->lock);
    return NULL;
}

static uint64_t size_of_parts(const struct myst_layout *layout)
{
    uint64_t size = 0;
    for (size_t i = 0; i < PARTS; i++)
        size += layout->regions[parts[i].region].file_size;
    return size;
}

void myst_reading_start(struct myst_reading *reading, const struct myst_layout *layout,
                        const struct myst_memory *memory)
{
    *reading = (struct myst_reading){
        .layout = layout,
        .memory = memory,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .progress = PTHREAD_COND_INITIALIZER,
        .busy = {MYST_NOWHERE, MYST_NOWHERE},
    };
    skip_ended_parts(reading);
    reading->has_thread =
        size_of_parts(layout) >= THREADED_SIZE && pthread_create(&reading->thread, NULL, read_all, reading) == 0;
}

uint64_t myst_reading_wait(struct myst_reading *reading, uint64_t offset)
{
    pthread_mutex_lock(&reading->lock);
    while (reading->result == 0 && complete(reading) < offset)
        if (!read_chunk(reading, MYST_READER_CALLER))
            pthread_cond_wait(&reading->progress, &reading->lock);
    const uint64_t reached = reading->result == 0 ? complete(reading) : 0;
    pthread_mutex_unlock(&reading->lock);
    return reached;
}

int myst_reading_finish(struct myst_reading *reading, struct myst_error *error)
{
    if (reading->has_thread)
        pthread_join(reading->thread, NULL);
    if (reading->result != 0)
        *error = reading->error;
    return reading->result;
}
