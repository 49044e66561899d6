#include "dashboards.h"
#include <string.h>

// The page lies in the binary: one file to deploy, and no path to get wrong.
static const unsigned char index_html[] = {
#embed "index.html"
};
static const unsigned char app_js[] = {
#embed "app.js"
};
static const unsigned char style_css[] = {
#embed "style.css"
};

static const struct { const char *name; const unsigned char *bytes; size_t count; } files[] = {
    { "index.html", index_html, sizeof index_html },
    { "app.js", app_js, sizeof app_js },
    { "style.css", style_css, sizeof style_css },
};

const unsigned char *obs_dashboard_file(const char *name, size_t *count) {
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(files[i].name, name) != 0) continue;
        *count = files[i].count;
        return files[i].bytes;
    }
    return NULL;
}
