/* phrasebook WORD...: says each word in every language that there is a library of. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define LIBRARIES "/usr/lib/phrases"

static void say(const char *title)
{
    char line[256];
    FILE *file = fopen(title, "r");
    if (file && fgets(line, sizeof line, file))
        fputs(line, stdout);
    if (file)
        fclose(file);
}

/* Prints what stands behind "word: " in a library. */
static void look_up(const char *library, const char *word)
{
    char path[512], line[256];
    snprintf(path, sizeof path, LIBRARIES "/%s", library);
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    size_t length = strlen(word);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, word, length) == 0 && strncmp(line + length, ": ", 2) == 0)
            printf("%s in %s: %s", word, library, line + length + 2);
    fclose(file);
}

int main(int argc, char **argv)
{
    struct dirent **libraries;
    int count = scandir(LIBRARIES, &libraries, NULL, alphasort);

    say("/etc/title");
    for (int i = 1; i < argc; i++)
        for (int j = 0; j < count; j++)
            if (libraries[j]->d_name[0] != '.')
                look_up(libraries[j]->d_name, argv[i]);
    return 0;
}
