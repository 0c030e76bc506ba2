/* Shows what reached the application: its arguments and its environment. */
#include <stdio.h>

int main(int argc, char *argv[], char *envp[])
{
    for (int i = 0; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    for (char **variable = envp; *variable; variable++)
        printf("environment: %s\n", *variable);
    puts("Hello from the enclave.");
    return 0;
}
