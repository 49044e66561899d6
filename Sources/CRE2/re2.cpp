#include "obs_re2.h"
#include <re2/filtered_re2.h>
#include <re2/re2.h>
#include <cstring>
#include <new>
#include <string>
#include <vector>

struct obs_re2 {
    re2::RE2 expression;
    obs_re2(re2::StringPiece pattern, const re2::RE2::Options &options) : expression(pattern, options) {}
};

extern "C" obs_re2 *obs_re2_compile(const char *pattern, size_t length, bool case_insensitive, bool dot_newline, char *message, size_t capacity) {
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_case_sensitive(!case_insensitive);
    options.set_dot_nl(dot_newline);
    auto *compiled = new (std::nothrow) obs_re2(re2::StringPiece(pattern, length), options);
    if (compiled && compiled->expression.ok()) return compiled;
    if (capacity > 0) {
        std::string text = compiled ? compiled->expression.error() : "out of memory";
        size_t n = text.size() < capacity - 1 ? text.size() : capacity - 1;
        std::memcpy(message, text.data(), n);
        message[n] = 0;
    }
    delete compiled;
    return nullptr;
}

extern "C" void obs_re2_free(obs_re2 *compiled) { delete compiled; }

extern "C" bool obs_re2_match(const obs_re2 *compiled, const char *text, size_t length, bool anchored, obs_re2_span *groups, int group_count) {
    constexpr int most = 64;
    re2::StringPiece found[most];
    int count = group_count < most ? group_count : most;
    bool matched = compiled->expression.Match(re2::StringPiece(text, length), 0, length,
                                              anchored ? re2::RE2::ANCHOR_BOTH : re2::RE2::UNANCHORED, found, count);
    if (!matched) return false;
    for (int i = 0; i < count; i++) groups[i] = obs_re2_span{found[i].data(), found[i].size()};
    for (int i = count; i < group_count; i++) groups[i] = obs_re2_span{nullptr, 0};
    return true;
}

extern "C" int obs_re2_group_count(const obs_re2 *compiled) { return compiled->expression.NumberOfCapturingGroups(); }

extern "C" bool obs_re2_group_name(const obs_re2 *compiled, int index, char *name, size_t capacity) {
    const auto &names = compiled->expression.CapturingGroupNames();
    auto found = names.find(index);
    if (found == names.end() || found->second.size() + 1 > capacity) return false;
    std::memcpy(name, found->second.c_str(), found->second.size() + 1);
    return true;
}

extern "C" bool obs_re2_literals(const char *pattern, size_t length, bool case_insensitive, bool dot_newline, int length_min, void *context,
                                 void (*found)(void *context, const char *literal, size_t length, bool required)) {
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_case_sensitive(!case_insensitive);
    options.set_dot_nl(dot_newline);
    re2::FilteredRE2 filter(length_min);
    int id = 0;
    if (filter.Add(re2::StringPiece(pattern, length), options, &id) != re2::RE2::NoError) return false;
    std::vector<std::string> literals;
    filter.Compile(&literals);
    auto mayMatch = [&](const std::vector<int> &present) {
        std::vector<int> potentials;
        filter.AllPotentials(present, &potentials);
        return !potentials.empty();
    };
    if (literals.empty() || mayMatch({})) return false;
    for (size_t left_out = 0; left_out < literals.size(); left_out++) {
        std::vector<int> others;
        for (size_t i = 0; i < literals.size(); i++) if (i != left_out) others.push_back(static_cast<int>(i));
        found(context, literals[left_out].data(), literals[left_out].size(), !mayMatch(others));
    }
    return true;
}
