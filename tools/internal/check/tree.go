// Package check holds the rules of the repository, as tests: import
// directions, pure packages, package comments, generated pages, the top level.
//
// Source: design sections 1, 6 and 7; each rule carries its reason.
//
// The rules read the tree in the test process, file by file, so that a cached
// result cannot hide a change. The code here only walks and parses.
package check

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Module is the module's path.
const Module = "hotdesk"

// A File is one parsed Go file.
type File struct {
	Path    string // from the root, with slashes
	Syntax  *ast.File
	Imports []string
	Test    bool
	Set     *token.FileSet
}

// Dir is the folder of the file.
func (f File) Dir() string { return path.Dir(f.Path) }

// Pos is "path:line" of a node.
func (f File) Pos(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.Path, f.Set.Position(n.Pos()).Line)
}

// Root finds the repository from the working directory of a test.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("check: no go.mod above the working directory")
		}
		dir = up
	}
}

// Load parses every Go file below root.
func Load(root string) ([]File, error) {
	var files []File
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != root && (strings.HasPrefix(name, ".") || p == filepath.Join(root, "bin") || p == filepath.Join(root, "out")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		syntax, err := parser.ParseFile(set, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		f := File{Path: filepath.ToSlash(rel), Syntax: syntax, Test: strings.HasSuffix(p, "_test.go"), Set: set}
		for _, im := range syntax.Imports {
			s, err := strconv.Unquote(im.Path.Value)
			if err != nil {
				return err
			}
			f.Imports = append(f.Imports, s)
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// Local turns an import path of this module into its folder.
func Local(imp string) (dir string, ok bool) {
	dir, ok = strings.CutPrefix(imp, Module+"/")
	return dir, ok
}

// Standard reports whether an import path is the standard library's.
func Standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".") && first != Module
}
